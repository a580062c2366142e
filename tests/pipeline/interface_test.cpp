// The public interface: what must be said, and what a call leaves behind.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "repquant/analyze.h"
#include "repquant/evaluate.h"
#include "repquant/quantize.h"
#include "support/errors.h"
#include "support/paths.h"
#include "support/planted_options.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::planted_options;

constexpr int kThreads = 3;  // of the caller; nothing here asks for as many

/// The number of threads of this process for one test.
class Interface : public ::testing::Test {
 protected:
  Interface() : before_(at::get_num_threads()) { at::set_num_threads(kThreads); }
  ~Interface() override { at::set_num_threads(before_); }

  testing::TempDir folder_;

 private:
  int before_;
};

TEST_F(Interface, SharesAreNoPercentages) {
  QuantizeOptions options = planted_options(folder_, "out.pt");
  options.min_coverage = 95.0;
  EXPECT_ERROR(quantize(options), ErrorKind::kUsage, "`min_coverage`");
  options.min_coverage = 0.0;
  options.min_agreement = 97.0;
  EXPECT_ERROR(quantize(options), ErrorKind::kUsage, "`min_agreement`");
  EXPECT_EQ(folder_.entries(), 0);
}

TEST_F(Interface, CalibrationMustBeSaid) {
  QuantizeOptions options = planted_options(folder_, "out.pt");
  options.calib = {};
  EXPECT_ERROR(quantize(options), ErrorKind::kUsage, "no calibration data");
  AnalyzeOptions analysis;
  analysis.model = options.model;
  EXPECT_ERROR(analyze(analysis), ErrorKind::kUsage, "no calibration data");
  PreviewOptions preview_options;
  preview_options.model = options.model;
  preview_options.data = DataPath{};
  EXPECT_ERROR(preview(preview_options), ErrorKind::kUsage, "no calibration data");
  EXPECT_EQ(folder_.entries(), 0);
}

TEST_F(Interface, RandomNumbersAreCalledSo) {
  QuantizeOptions options;
  options.model = (testing::source_dir() / "examples/digits/digits_vit.pt").string();
  options.output = (folder_ / "out.pt").string();
  options.recipe.bits = {8, 8};
  options.recipe.calibration.samples = 8;
  options.calib = DataPath{(testing::source_dir() / "examples/digits/digits_calib.npz").string()};
  EXPECT_FALSE(quantize(options).synthetic);
  options.calib = Synthetic{{1, 8, 8}};
  options.force = true;
  EXPECT_TRUE(quantize(options).synthetic);
  options.calib = Synthetic{{1, 0, 8}};
  EXPECT_ERROR(quantize(options), ErrorKind::kUsage, "`input_shape`");
}

TEST_F(Interface, ThreadsAreTheCallersAgain) {
  QuantizeOptions options = planted_options(folder_, "out.pt");
  options.recipe.calibration.samples = 8;
  quantize(options);
  EXPECT_EQ(at::get_num_threads(), kThreads);
  EXPECT_ERROR(quantize(options), ErrorKind::kFile, "`force`");  // the output exists
  EXPECT_EQ(at::get_num_threads(), kThreads);
  options.force = true;
  Observer observer;
  observer.on_phase = [](const std::string& phase, std::size_t) {
    if (phase == "quantize") throw Error(ErrorKind::kInterrupted, {.what = "stop"});
  };
  EXPECT_ERROR(quantize(options, observer), ErrorKind::kInterrupted, "stop");
  EXPECT_EQ(at::get_num_threads(), kThreads);

  PreviewOptions preview_options;
  preview_options.model = options.model;
  preview_options.data = options.calib;
  EXPECT_TRUE(preview(preview_options).proven);
  EXPECT_EQ(at::get_num_threads(), kThreads);

  EvaluationOptions evaluation;
  evaluation.models = {options.output};
  evaluation.data = std::get<DataPath>(options.calib).path;
  evaluation.reference = options.model;
  evaluate(evaluation);
  EXPECT_EQ(at::get_num_threads(), kThreads);
}

TEST_F(Interface, PhasesAndItemsAreReported) {
  QuantizeOptions options = planted_options(folder_, "out.pt");
  options.recipe.calibration.samples = 8;
  std::vector<std::string> phases;
  std::size_t items = 0;
  Observer observer;
  observer.on_phase = [&](const std::string& phase, std::size_t) { phases.push_back(phase); };
  observer.on_item = [&](const std::string& item, std::size_t) { items += item.empty() ? 0 : 1; };
  const QuantizeReport report = quantize(options, observer);
  EXPECT_EQ(phases, (std::vector<std::string>{"load", "prove", "quantize", "write"}));
  EXPECT_GE(items, report.sites.size());
}

}  // namespace
}  // namespace repquant
