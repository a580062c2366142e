// Samples that nothing was fitted on: what is held back, what it says, and the gates.
#include "pipeline/judge.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>

#include <cmath>

#include "graph/results.h"
#include "pipeline/model_run.h"
#include "recipe/json.h"
#include "repquant/artifact.h"
#include "repquant/load.h"
#include "support/errors.h"
#include "support/paths.h"
#include "support/random.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

TEST(Judge, FloorsGoByTheWeakerOfWeightsAndInputs) {
  EXPECT_EQ(floor_db({8, 8}), 15.0);
  EXPECT_EQ(floor_db({6, 6}), 10.0);
  EXPECT_EQ(floor_db({6, 8}), 10.0);
  EXPECT_EQ(floor_db({4, 8}), 7.0);
  EXPECT_EQ(floor_db({4, kWeightOnlyBits}), 7.0);
  EXPECT_EQ(floor_db({8, 4}), 3.0);
  EXPECT_EQ(floor_db({4, 4}), 3.0);
  EXPECT_EQ(floor_db({3, 3}), 0.0);
}

TEST(Judge, RowsOfOneNormAreNoLogits) {
  at::manual_seed(1);
  const at::Tensor logits = at::randn({4, 10}), rows = at::randn({4, 6});
  const at::Tensor embeddings = rows / rows.norm(2, -1, true);
  EXPECT_TRUE(logits_in({at::ones({4, 10}, at::kLong), at::randn({4}), logits}).is_same(logits));
  EXPECT_TRUE(logits_in({embeddings, logits}).is_same(logits));
  EXPECT_FALSE(logits_in({embeddings}).defined());
}

TEST(HoldBack, TheLastSamplesAndNeverAll) {
  const Batches batches{{at::arange(8).view({8, 1})}, {at::arange(8, 12).view({4, 1})}};
  const HeldBack none = hold_back_samples(batches, 0);
  EXPECT_EQ(sample_count(none.fitted), 12);
  EXPECT_TRUE(none.held_back.empty());
  const HeldBack five = hold_back_samples(batches, 5);
  EXPECT_EQ(sample_count(five.fitted), 7);
  EXPECT_EQ(five.held_back.front()[0][0].item<std::int64_t>(), 7);
  EXPECT_GT(sample_count(hold_back_samples(batches, 12).fitted), 0);
}

TEST(SpreadSamples, TakesThemFromAllBatches) {
  Batches batches;
  for (int i = 0; i < 6; ++i) batches.emplace_back(1, at::full({4, 2}, i));
  std::vector<std::int64_t> sizes;
  for (const auto& batch : spread_samples(batches, 9)) sizes.push_back(batch[0].size(0));
  EXPECT_EQ(sizes, (std::vector<std::int64_t>{1, 2, 1, 2, 1, 2}));
  const Batches two = spread_samples(batches, 2);
  ASSERT_EQ(two.size(), 2U);
  EXPECT_EQ(two[0][0][0][0].item<int>(), 2);
  EXPECT_EQ(two[1][0][0][0].item<int>(), 5);
  EXPECT_EQ(sample_count(spread_samples(batches, 24)), 24);
  EXPECT_EQ(sample_count(spread_samples(batches, 100)), 24);
}

class JudgeRun : public ::testing::Test {
 protected:
  JudgeRun() {
    const auto digits = testing::source_dir() / "examples/digits";
    options_.model = (digits / "digits_vit.pt").string();
    options_.calib = DataPath{(digits / "digits_calib.npz").string()};
    options_.output = (folder_ / "out.pt").string();
    options_.recipe = recipe_for_bits({8, 8});
    options_.recipe.calibration.samples = 32;
    options_.recipe.effort = Effort::kFast;
    observer_.warn = [this](const std::string& text) { warnings_ += text + "\n"; };
  }

  testing::TempDir folder_;
  QuantizeOptions options_;
  Observer observer_;
  std::string warnings_;
};

TEST_F(JudgeRun, AnEighthJudgesAndTheArtifactSaysSo) {
  const QuantizeReport report = quantize(options_, observer_);
  ASSERT_TRUE(report.judgement.has_value());
  EXPECT_EQ(report.judgement->samples, 4);
  EXPECT_EQ(report.samples, 28);
  EXPECT_GT(report.judgement->sqnr_db, 20.0);
  EXPECT_TRUE(report.judgement->agreement.has_value());
  EXPECT_EQ(read_artifact(options_.output).judgement->sqnr_db, report.judgement->sqnr_db);
  EXPECT_EQ(warnings_, "");
  EXPECT_EQ(report.checks.back().name, "forms");
}

// A model that ends in argmax: equal values count, there is no error to measure.
TEST_F(JudgeRun, WholeNumbersAreJudgedByEquality) {
  testing::Random random(4);
  torch::jit::Module module("Classes");
  module.register_parameter("w", random.normal({24, 16}), false);
  module.register_parameter("head", random.normal({5, 24}), false);
  module.define(R"(
def forward(self, x):
    return torch.linear(torch.relu(torch.linear(x, self.w)), self.head).argmax(-1)
)");
  module.save((folder_ / "classes.pt").string());
  testing::save_tensor(random.normal({32, 6, 16}), folder_ / "x.pt");
  options_.model = (folder_ / "classes.pt").string();
  options_.calib = DataPath{(folder_ / "x.pt").string()};
  const QuantizeReport report = quantize(options_, observer_);
  ASSERT_TRUE(report.judgement.has_value());
  ASSERT_TRUE(report.judgement->agreement.has_value());
  EXPECT_GT(*report.judgement->agreement, 0.9);
  const double lost = 1.0 - *report.judgement->agreement;
  EXPECT_NEAR(std::pow(10.0, -report.judgement->sqnr_db / 10.0), lost, 1e-9);
  EXPECT_GT(report.output_sqnr_db, 10.0);
  options_.recipe = recipe_for_bits({2, 2});
  options_.min_agreement = 1.0;
  options_.force = true;
  EXPECT_ERROR(quantize(options_, observer_), ErrorKind::kGate, "min_agreement");
}

TEST_F(JudgeRun, WarnsBelowTheFloorAndNamesSites) {
  options_.recipe.calibration.warn_below_db = 100;
  quantize(options_, observer_);
  EXPECT_NE(warnings_.find("below 100.0 dB"), std::string::npos) << warnings_;
  EXPECT_NE(warnings_.find("blocks."), std::string::npos) << warnings_;
}

TEST_F(JudgeRun, NothingIsHeldBackOnRequestOrOfFewSamples) {
  options_.recipe.calibration.hold_back = 0;
  EXPECT_FALSE(quantize(options_, observer_).judgement.has_value());
  options_.recipe.calibration.hold_back = 16;
  options_.recipe.calibration.samples = 7;
  options_.force = true;
  const QuantizeReport report = quantize(options_, observer_);
  EXPECT_FALSE(report.judgement.has_value());
  EXPECT_EQ(report.samples, 7);
  options_.min_sqnr_db = 1.0;
  EXPECT_ERROR(quantize(options_, observer_), ErrorKind::kUsage, "held back");
}

TEST_F(JudgeRun, GatesFailBeforeAnythingIsWritten) {
  options_.min_sqnr_db = 90.0;
  EXPECT_ERROR(quantize(options_, observer_), ErrorKind::kGate, "too far from FP32");
  options_.min_sqnr_db.reset();
  options_.recipe = recipe_for_bits({2, 2});
  options_.min_agreement = 1.0;
  EXPECT_ERROR(quantize(options_, observer_), ErrorKind::kGate, "another class");
  EXPECT_EQ(folder_.entries(), 0);
}

}  // namespace
}  // namespace repquant
