// Tiny seeded models of real architectures (tests/fixtures/make_architectures.py): what is found in
// them, and how well the integer artifact follows them.
#include <gtest/gtest.h>
#include <torch/script.h>

#include <cstdlib>
#include <iomanip>
#include <set>
#include <sstream>

#include "repquant/quantize.h"
#include "support/paths.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::source_dir;

constexpr double kLeastSqnr = 20.0;  // dB at w8a8: a wrong fold or mask gives far less

class Architecture : public ::testing::TestWithParam<const char*> {
 protected:
  static std::string file(const std::string& suffix) {
    return (source_dir() / "tests/fixtures/architectures" / (GetParam() + suffix)).string();
  }
};

/// The site table and the coverage, without anything that is fitted.
std::string table(const Preview& preview) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(4);
  for (const auto& site : preview.sites) {
    text << site.path << " | " << site.kind << " | macs " << site.macs;
    if (!site.grids.empty()) text << " | " << site.grids;
    if (!site.note.empty()) text << " | " << site.note;
    text << '\n';
  }
  for (const auto& gap : preview.coverage.gaps) {
    text << "float: " << gap.path << " | " << gap.op << " | macs " << gap.macs << " | "
         << gap.reason << '\n';
  }
  text << "quantized: " << preview.coverage.mac_share() << " of the multiply-accumulates, "
       << preview.coverage.parameter_share() << " of the parameters\n";
  return text.str();
}

TEST_P(Architecture, CoverageIsTheGoldenOne) {
  PreviewOptions options;
  options.model = file(".pt");
  options.data = DataPath{file(".npz")};
  const Preview found = preview(options);
  EXPECT_TRUE(found.proven);
  const auto golden =
      source_dir() / "tests/pipeline/golden" / (std::string(GetParam()) + ".coverage.txt");
  if (std::getenv("REPQUANT_UPDATE_FILES") != nullptr) testing::write_text(golden, table(found));
  EXPECT_EQ(table(found), testing::read_text(golden));
}

TEST_P(Architecture, EightBitsFollowTheModel) {
  const testing::TempDir folder;
  QuantizeOptions options;
  options.model = file(".pt");
  options.calib = DataPath{file(".npz")};
  options.output = (folder / "quantized.pt").string();
  options.recipe.bits = {8, 8};
  const QuantizeReport report = quantize(options);  // checks the integer form itself
  EXPECT_GT(report.output_sqnr_db, kLeastSqnr);
}

/// A layer that is applied again is stored once, also after a run was resumed.
TEST(SharedLayers, AreStoredOnce) {
  const testing::TempDir folder;
  QuantizeOptions options;
  options.model = (source_dir() / "tests/fixtures/architectures/albert.pt").string();
  options.calib = DataPath{(source_dir() / "tests/fixtures/architectures/albert.npz").string()};
  options.output = (folder / "quantized.pt").string();
  options.workdir = (folder / "work").string();
  options.recipe.bits = {8, 8};
  const Coverage coverage = quantize(options).coverage;
  std::int64_t elements = 0;
  const auto model = torch::jit::load(options.model);
  for (const auto& parameter : model.parameters()) elements += parameter.numel();
  EXPECT_LE(coverage.parameters, elements) << "the layer counts once";
  EXPECT_GT(coverage.parameter_share(), 0.9);
  const std::string first = testing::read_text(options.output);
  std::set<const void*> codes;
  std::size_t linears = 0;
  for (const auto& module : torch::jit::load(options.output).modules()) {
    if (module.type()->name()->name() != "Linear") continue;
    ++linears;
    codes.insert(module.attr("codes").toTensor().data_ptr());
  }
  EXPECT_EQ(linears, codes.size() + 6);  // six Linears of the layer, applied twice
  options.resume = true;
  options.force = true;
  quantize(options);
  EXPECT_EQ(testing::read_text(options.output), first);
}

INSTANTIATE_TEST_SUITE_P(All, Architecture,
                         ::testing::Values("albert", "bert", "clip", "detr_like", "gpt2", "llama",
                                           "mobile_like", "opt_post_norm", "opt_pre_norm",
                                           "swin_padded", "t5", "torch_encoder_pre_norm"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace repquant
