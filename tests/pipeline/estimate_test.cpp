// The estimate before a run: what it is made of, and that it leaves no trace in the artifact.
#include "pipeline/estimate.h"

#include <gtest/gtest.h>

#include <string>

#include "base/recipe_json.h"
#include "repquant/quantize.h"
#include "support/prepared.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::Prepared;

WorkTerms terms_of(const Prepared& prepared, bool workdir = false) {
  return work_terms(prepared.model, prepared.search.sites,
                    resolve_bits(prepared.search.sites, recipe_for_bits({8, 8})), prepared.batches,
                    workdir);
}

TEST(Estimate, GrowsWithTheCalibrationData) {
  const WorkTerms one = terms_of(testing::prepare_planted(1));
  const WorkTerms four = terms_of(testing::prepare_planted(4));
  EXPECT_GT(one.fitted_values, 0.0);
  EXPECT_GT(one.operand_values, 0.0);
  EXPECT_DOUBLE_EQ(four.fitted_values, 4 * one.fitted_values);
  EXPECT_DOUBLE_EQ(four.operand_values, 4 * one.operand_values);
  EXPECT_DOUBLE_EQ(four.alive_bytes, 4 * one.alive_bytes);
  EXPECT_EQ(four.code_bytes, one.code_bytes);
}

TEST(Estimate, CodesAreABytePerQuantizedWeight) {
  const Prepared prepared = testing::prepare_planted(1);
  double weights = 0;
  for (const Site& site : prepared.search.sites) {
    if (site.weight.defined()) weights += static_cast<double>(site.weight.numel());
  }
  EXPECT_EQ(terms_of(prepared).code_bytes, weights);
}

TEST(Estimate, ThreadsAndEffortCount) {
  const WorkTerms work{.float_seconds = 100,
                       .fitted_values = 1e9,
                       .operand_values = 0,
                       .fitted_macs = 1e9,
                       .model_bytes = 1e9,
                       .code_bytes = 1e8,
                       .alive_bytes = 2e8,
                       .largest_fit_bytes = 3e8};
  const MachineSpeed speed{.value_seconds = 1e-9, .mac_seconds = 1e-9};
  Recipe recipe;
  const Estimate one = estimate(work, speed, recipe, 1);
  EXPECT_DOUBLE_EQ(one.bytes, 1.7e9);
  EXPECT_LT(estimate(work, speed, recipe, 2).seconds, 0.6 * one.seconds);
  recipe.learning.steps = 100;
  EXPECT_GT(estimate(work, speed, recipe, 1).seconds, one.seconds);
  recipe.learning.steps = 0;
  recipe.weights.sensitivity = 0;
  EXPECT_LT(estimate(work, speed, recipe, 1).seconds, one.seconds);
  recipe.bits = {4, 16};
  EXPECT_LT(estimate(work, speed, recipe, 1).seconds, one.seconds - 100);
}

TEST(Estimate, SpilledActivationsAreBounded) {
  WorkTerms work = terms_of(testing::prepare_planted(4), /*workdir=*/true);
  EXPECT_LE(work.alive_bytes, 1 << 28);
}

TEST(Estimate, IsSaidBeforeTheSweepAndNotWritten) {
  const testing::TempDir folder;
  QuantizeOptions options;
  options.calib = (testing::source_dir() / "tests/fixtures/architectures/llama.npz").string();
  options.model = (testing::source_dir() / "tests/fixtures/architectures/llama.pt").string();
  options.recipe = recipe_for_bits({8, 8});
  options.output = (folder / "silent.pt").string();
  quantize(options);
  options.output = (folder / "said.pt").string();
  std::string said, phase;
  QuantizeHooks hooks;
  hooks.on_phase = [&](const std::string& name, std::size_t) { phase = name; };
  hooks.info = [&](const std::string& text) {
    if (text.find("estimate") == std::string::npos) return;
    said = text;
    EXPECT_EQ(phase, "prove");
  };
  quantize(options, hooks);
  EXPECT_NE(said.find("GB of memory"), std::string::npos);
  EXPECT_EQ(testing::read_text(folder / "silent.pt"), testing::read_text(folder / "said.pt"));
}

}  // namespace
}  // namespace repquant
