// The classes' files: what is read from them, and what becomes TorchScript.
#include "format/class_source.h"

#include <gtest/gtest.h>

#include "support/errors.h"

namespace repquant {
namespace {

TEST(ClassSource, ReadsAttributesMethodsAndConstants) {
  const ClassSource source = parse_class(
      "\"\"\"Says something.\"\"\"\n"
      "\n"
      "TOP = 7\n"
      "\n"
      "class Example:\n"
      "    # Stored, in this order.\n"
      "    codes: Tensor\n"
      "    shape: List[int]\n"
      "    # Derived by prepare().\n"
      "    high: float\n"
      "\n"
      "    def prepare(self) -> None:\n"
      "        self.high = TOP\n");
  EXPECT_EQ(source.name, "Example");
  const std::vector<std::pair<std::string, std::string>> stored{{"codes", "Tensor"},
                                                                {"shape", "List[int]"}};
  const std::vector<std::pair<std::string, std::string>> derived{{"high", "float"}};
  EXPECT_EQ(source.stored, stored);
  EXPECT_EQ(source.derived, derived);
  EXPECT_EQ(source.methods, "\ndef prepare(self) -> None:\n    self.high = 7\n");
  EXPECT_EQ(full_source(source),
            "\ndef prepare(self) -> None:\n    self.high = 7\n"
            "\ndef __getstate__(self) -> Tuple[Tensor, List[int], bool]:\n"
            "    return (self.codes, self.shape, self.training)\n"
            "\ndef __setstate__(self, state: Tuple[Tensor, List[int], bool]) -> None:\n"
            "    self.codes = state[0]\n"
            "    self.shape = state[1]\n"
            "    self.training = state[2]\n"
            "    self.prepare()\n");
}

TEST(ClassSource, TextWithoutAClassIsAnError) {
  EXPECT_ERROR(parse_class("TOP = 7\n"), ErrorKind::kInternal, "no class");
}

TEST(ClassSource, KindsNameTheirClasses) {
  EXPECT_EQ(class_sources().size(), 17U);
  EXPECT_EQ(class_source(ClassKind::kNormQuantize).name, "NormQuantize");
  for (const ClassSource& source : class_sources()) {
    const auto kind = find_class_kind(source.name);
    ASSERT_TRUE(kind.has_value()) << source.name;
    EXPECT_EQ(&class_source(*kind), &source);
  }
  EXPECT_EQ(find_class_kind("Conv2d"), std::nullopt);
  EXPECT_EQ(class_source(ClassKind::kQuantize).name, "Quantize");
  EXPECT_EQ(class_source(ClassKind::kLinear).name, "Linear");
  EXPECT_EQ(class_source(ClassKind::kWeightOnlyLinear).name, "WeightOnlyLinear");
  EXPECT_EQ(class_source(ClassKind::kSideColumns).name, "SideColumns");
  EXPECT_EQ(class_source(ClassKind::kScores).name, "Scores");
  EXPECT_EQ(class_source(ClassKind::kAttend).name, "Attend");
  EXPECT_EQ(class_source(ClassKind::kEmbedding).name, "Embedding");
  EXPECT_EQ(class_source(ClassKind::kTokenRange).name, "TokenRange");
  EXPECT_EQ(class_source(ClassKind::kTokenQuantize).name, "TokenQuantize");
  EXPECT_EQ(class_source(ClassKind::kTokenScale).name, "TokenScale");
  EXPECT_EQ(class_source(ClassKind::kConvolution).name, "Convolution");
  EXPECT_EQ(class_source(ClassKind::kCacheQuantize).name, "CacheQuantize");
  EXPECT_EQ(class_source(ClassKind::kCacheDequantize).name, "CacheDequantize");
  EXPECT_EQ(class_source(ClassKind::kRowScale).name, "RowScale");
  EXPECT_EQ(class_source(ClassKind::kRowQuantize).name, "RowQuantize");
  EXPECT_EQ(class_source(ClassKind::kGroupQuantize).name, "GroupQuantize");
  EXPECT_EQ(find_class("__torch__.repquant.Scores"), &class_source(ClassKind::kScores));
  EXPECT_EQ(find_class("__torch__.Scores"), nullptr);
}

}  // namespace
}  // namespace repquant
