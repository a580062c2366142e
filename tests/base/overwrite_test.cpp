// Files of a command that must not be one and the same.
#include "base/overwrite.h"

#include <gtest/gtest.h>

#include <array>

#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using Outputs = std::array<NamedPath, 3>;

TEST(CheckDistinct, OtherFilesAndNone) {
  const testing::TempDir folder;
  EXPECT_NO_THROW(check_distinct(Outputs{{{"artifact", folder / "a"}, {"report", folder / "b"}}}));
  EXPECT_NO_THROW(check_distinct(Outputs{{{"artifact", ""}, {"report", ""}, {"log", ""}}}));
}

TEST(CheckDistinct, OneFileUnderTwoNames) {
  const testing::TempDir folder;
  std::ofstream(folder / "there") << "x";
  std::filesystem::create_symlink(folder / "there", folder / "link");
  std::filesystem::create_directory(folder / "sub");
  for (const auto& [one, other] :
       {std::pair("new", "new"), std::pair("new", "sub/../new"), std::pair("there", "link")}) {
    const Outputs outputs{{{"artifact", folder / one}, {}, {"report", folder / other}}};
    EXPECT_ERROR(check_distinct(outputs), ErrorKind::kUsage,
                 "the report would replace the artifact");
  }
}

}  // namespace
}  // namespace repquant
