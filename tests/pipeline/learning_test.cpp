// Learning from end to end (--effort high): held-back samples decide, all are learned from.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "repquant/quantize.h"
#include "support/errors.h"
#include "support/planted_options.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::TempDir;

/// Mean errors are left in, so that there is something to learn.
QuantizeOptions rough_options(const TempDir& folder, const std::string& name, int steps) {
  QuantizeOptions options = testing::planted_options(folder, name);
  options.recipe.calibration.samples = 24;
  options.recipe.weights.bias_correction = false;
  options.recipe.weights.compensation = Compensation::kNone;
  options.recipe.learning.steps = steps;
  options.recipe.learning.samples = 4;
  return options;
}

struct Log {
  std::vector<std::string> phases, texts, warnings;

  QuantizeHooks hooks() {
    QuantizeHooks hooks;
    hooks.on_phase = [this](const std::string& name, std::size_t) { phases.push_back(name); };
    hooks.info = [this](const std::string& text) { texts.push_back(text); };
    hooks.warn = [this](const std::string& text) { warnings.push_back(text); };
    return hooks;
  }
  std::ptrdiff_t count(const std::string& phase) const {
    return std::count(phases.begin(), phases.end(), phase);
  }
};

TEST(Learning, IsJudgedOnAPartAndDoneOnAllSamples) {
  const TempDir folder;
  Log log;
  const QuantizeReport learned = quantize(rough_options(folder, "high.pt", 60), log.hooks());
  EXPECT_EQ(log.count("quantize"), 2);  // without the held-back samples, and with them
  EXPECT_EQ(log.count("learn"), 2);
  EXPECT_EQ(log.count("fit the last block"), 2);
  const auto told = std::find_if(log.texts.begin(), log.texts.end(), [](const std::string& text) {
    return text.find("steps of learning") != std::string::npos;
  });
  EXPECT_NE(told, log.texts.end());
  const QuantizeReport before = quantize(rough_options(folder, "before.pt", 0));
  EXPECT_GT(learned.output_sqnr_db, before.output_sqnr_db);
}

TEST(Learning, OfASingleSampleIsTheClosedForm) {
  const TempDir folder;
  Log log;
  QuantizeOptions options = rough_options(folder, "high.pt", 10);
  options.recipe.calibration.samples = 1;
  const QuantizeReport report = quantize(options, log.hooks());
  EXPECT_EQ(log.count("learn"), 0);
  ASSERT_FALSE(log.warnings.empty());
  EXPECT_NE(log.warnings.front().find("a single calibration sample"), std::string::npos);
  options.recipe.learning.steps = 0;
  options.output = (folder / "standard.pt").string();
  EXPECT_EQ(report.output_sqnr_db, quantize(options).output_sqnr_db);
}

/// Stops after `sites` sites of the sweep that comes as number `sweep`.
QuantizeHooks stop_in(int sweep, std::size_t sites) {
  QuantizeHooks hooks;
  const auto seen = std::make_shared<int>(0);
  hooks.on_phase = [seen](const std::string& name, std::size_t) { *seen += name == "quantize"; };
  hooks.on_item = [=](const std::string&, std::size_t done) {
    if (*seen == sweep && done == sites) throw Error(ErrorKind::kInterrupted, {.what = "stop"});
  };
  return hooks;
}

TEST(Learning, ResumesInEitherSweepToTheSameResult) {
  const TempDir folder;
  const double whole = quantize(rough_options(folder, "whole.pt", 20)).output_sqnr_db;
  QuantizeOptions options = rough_options(folder, "resumed.pt", 20);
  options.workdir = (folder / "work").string();
  EXPECT_ERROR(quantize(options, stop_in(1, 4)), ErrorKind::kInterrupted, "stop");
  options.resume = true;
  EXPECT_ERROR(quantize(options, stop_in(2, 6)), ErrorKind::kInterrupted, "stop");
  EXPECT_EQ(quantize(options).output_sqnr_db, whole);
}

}  // namespace
}  // namespace repquant
