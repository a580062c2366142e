// `--effort high`: learning between fit and artifact.
#include "repquant/quantize.h"

#include <ATen/ATen.h>

#include <filesystem>

#include "pipeline/model_run.h"
#include "repquant/load.h"
#include "support/errors.h"
#include "support/paths.h"
#include "support/planted_options.h"
#include "support/recipes.h"

namespace repquant {
namespace {

using testing::TempDir;

/// A few steps of what --effort high does many of.
QuantizeOptions digits_options(const TempDir& folder) {
  const auto digits = testing::source_dir() / "examples/digits";
  QuantizeOptions options;
  options.model = (digits / "digits_vit.pt").string();
  options.calib = DataPath{(digits / "digits_calib.npz").string()};
  options.output = (folder / "out.pt").string();
  options.recipe = testing::coarse_recipe({3, 4});
  options.recipe.calibration.samples = 128;
  options.recipe.learning.steps = 60;
  options.recipe.learning.rate = 0.02;
  return options;
}

TEST(Learning, TheArtifactHasWhatWasLearned) {
  const TempDir folder;
  QuantizeOptions options = digits_options(folder);
  std::vector<std::string> phases;
  Observer observer;
  observer.on_phase = [&](const std::string& phase, std::size_t) { phases.push_back(phase); };
  const QuantizeReport learned = quantize(options, observer);
  ASSERT_TRUE(learned.learning.has_value());
  EXPECT_TRUE(learned.learning->kept);
  EXPECT_EQ(learned.learning->steps, 60);
  EXPECT_LT(learned.learning->loss_after, learned.learning->loss_before);
  EXPECT_EQ(learned.checks.back().name, "forms");
  EXPECT_EQ(std::count(phases.begin(), phases.end(), "learn"), 1);
  for (const SiteReport& site : learned.sites) {
    const bool weights = site.weight_bits > 0 && site.kind != "embedding";
    EXPECT_EQ(site.note.find("; learned") != std::string::npos, weights) << site.path;
  }

  options.recipe.learning.steps = 0;
  options.output = (folder / "plain.pt").string();
  const QuantizeReport plain = quantize(options, observer);
  EXPECT_FALSE(plain.learning.has_value());
  EXPECT_NE(learned.output_sqnr_db, plain.output_sqnr_db);  // measured anew
  EXPECT_NE(learned.sites.back().own_sqnr_db, plain.sites.back().own_sqnr_db);
}

TEST(Learning, StartsFromAFitToFewerSamplesWhereThereAreEnough) {
  const TempDir folder;
  QuantizeOptions options = digits_options(folder);
  options.workdir = (folder / "work").string();
  options.recipe.learning.start_samples = 28;  // of 112
  std::vector<std::string> phases;
  Observer observer;
  observer.on_phase = [&](const std::string& phase, std::size_t) { phases.push_back(phase); };
  const QuantizeReport report = quantize(options, observer);
  EXPECT_EQ(std::count(phases.begin(), phases.end(), "fit the start"), 1);
  ASSERT_TRUE(report.learning.has_value());
  EXPECT_TRUE(std::filesystem::exists(folder / "work/start/site_0000.pt"));

  // What is to be beaten is the fit to all samples, whatever the start.
  QuantizeOptions others = options;
  others.workdir.clear();
  others.output = (folder / "all.pt").string();
  others.recipe.learning.start_samples = 57;
  phases.clear();
  const QuantizeReport all = quantize(others, observer);
  EXPECT_EQ(std::count(phases.begin(), phases.end(), "fit the start"), 0);
  EXPECT_EQ(all.learning->loss_before, report.learning->loss_before);
  EXPECT_NE(all.learning->loss_after, report.learning->loss_after);

  options.resume = true;
  options.output = (folder / "again.pt").string();
  EXPECT_EQ(quantize(options).learning->loss_after, report.learning->loss_after);
}

TEST(Learning, WithoutSamplesThatAreHeldBackItWarns) {
  const TempDir folder;
  QuantizeOptions options = digits_options(folder);
  options.recipe.calibration.hold_back = 0;
  options.recipe.calibration.samples = 16;
  std::string warnings;
  Observer observer;
  observer.warn = [&](const std::string& text) { warnings += text + "\n"; };
  const QuantizeReport report = quantize(options, observer);
  EXPECT_FALSE(report.learning.has_value());
  EXPECT_NE(warnings.find("nothing was learned"), std::string::npos) << warnings;
}

}  // namespace
}  // namespace repquant
