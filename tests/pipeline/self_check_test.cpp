// A run that fails after its file has been written leaves nothing behind, and no older file is
// lost.
#include "recipe/json.h"
#include "repquant/quantize.h"
#include "support/errors.h"
#include "support/paths.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::read_text;
using testing::source_dir;
using testing::write_text;

class SelfCheckTest : public ::testing::Test {
 protected:
  SelfCheckTest() {
    const auto digits = source_dir() / "examples/digits";
    options_.model = (digits / "digits_vit.pt").string();
    options_.calib = DataPath{(digits / "digits_calib.npz").string()};
    options_.output = (folder_ / "out.pt").string();
    options_.recipe = recipe_for_bits({4, 4});
    options_.recipe.calibration.samples = 8;
  }

  /// The file under its temporary name, once it has been written.
  std::filesystem::path temporary() const {
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
      if (entry.path() != options_.output && entry.file_size() > 0) return entry.path();
    }
    return {};
  }

  testing::TempDir folder_;
  QuantizeOptions options_;
};

TEST_F(SelfCheckTest, FileThatIsNotWhatWasWritten) {
  const testing::TempDir elsewhere;
  QuantizeOptions other = options_;
  other.output = (elsewhere / "other.pt").string();
  other.recipe = recipe_for_bits({8, 8});
  other.recipe.calibration.samples = 8;
  quantize(other);

  bool replaced = false;
  Observer observer;
  observer.check_interrupt = [&] {
    const auto file = temporary();
    if (file.empty() || replaced) return;
    write_text(file, read_text(other.output));
    replaced = true;
  };
  EXPECT_ERROR(quantize(options_, observer), ErrorKind::kNumerical, "self-check");
  EXPECT_TRUE(replaced);
  EXPECT_EQ(folder_.entries(), 0);
}

TEST_F(SelfCheckTest, FileThatIsTorn) {
  write_text(options_.output, "precious");
  options_.force = true;
  Observer observer;
  observer.check_interrupt = [&] {
    const auto file = temporary();
    if (!file.empty()) std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
  };
  EXPECT_ERROR(quantize(options_, observer), ErrorKind::kFile, "cannot be loaded");
  EXPECT_EQ(read_text(options_.output), "precious");
  EXPECT_EQ(folder_.entries(), 1);
}

TEST_F(SelfCheckTest, InterruptedWhenTheFileIsWritten) {
  Observer observer;
  observer.check_interrupt = [&] {
    if (!temporary().empty()) throw Error(ErrorKind::kInterrupted, {.what = "interrupted"});
  };
  EXPECT_ERROR(quantize(options_, observer), ErrorKind::kInterrupted, "interrupted");
  EXPECT_EQ(folder_.entries(), 0);
}

TEST_F(SelfCheckTest, WithoutInterferenceItPasses) {
  const QuantizeReport report = quantize(options_);
  EXPECT_GE(report.checks.size(), 3U);
  EXPECT_EQ(report.checks.back().name, "forms");
  EXPECT_EQ(folder_.entries(), 1);
}

}  // namespace
}  // namespace repquant
