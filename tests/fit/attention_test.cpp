#include "fit/attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "plan/simulate.h"
#include "quantizer/log.h"
#include "support/random.h"

namespace repquant {
namespace {

const AttendSite kHeads{.heads = true, .columns = true};
const AttendSite kNoHeads{.columns = true};

double value_error(const at::Tensor& value, const AttendPlan& plan) {
  return (fake_quantize(value, plan.value) - value).square().mean().item<double>();
}

TEST(FitAttend, GridsPerChannelFollowTheChannels) {
  testing::Random random(1);
  const at::Tensor value =
      random.normal({2, 3, 50, 8}) * at::exp(random.normal({3, 1, 8})) + random.normal({3, 1, 8});
  AttentionRecipe recipe;
  recipe.value_per_channel = false;
  const AttendPlan heads = fit_attend({value}, kHeads, 4, recipe, true);
  EXPECT_EQ(heads.value.scale.sizes(), (std::vector<std::int64_t>{3, 1, 1}));
  recipe.value_per_channel = true;
  const AttendPlan channels = fit_attend({value}, kHeads, 4, recipe, true);
  EXPECT_EQ(channels.value.scale.sizes(), (std::vector<std::int64_t>{3, 1, 8}));
  EXPECT_LT(value_error(value, channels), 0.5 * value_error(value, heads));
  EXPECT_EQ(describe(heads), "v per head");
  EXPECT_EQ(describe(channels), "v per channel");
}

TEST(FitAttend, TokensAsColumnsGetNoGridsOfTheirOwn) {
  testing::Random random(3);
  const AttendPlan plan =
      fit_attend({random.normal({2, 3, 8, 50})}, {.heads = true}, 4, AttentionRecipe{}, true);
  EXPECT_EQ(plan.value.scale.sizes(), (std::vector<std::int64_t>{3, 1, 1}));
}

TEST(FitAttend, GridsPerChannelWithoutHeads) {
  testing::Random random(2);
  const AttendPlan plan =
      fit_attend({random.normal({2, 50, 8})}, kNoHeads, 4, AttentionRecipe{}, true);
  EXPECT_EQ(plan.value.scale.sizes(), (std::vector<std::int64_t>{8}));
}

TEST(FitAttend, AFourthAxisThatIsNoHeadsGetsNoGridsOfItsOwn) {
  testing::Random random(5);
  // Batches of two sizes in axis -3: [H, B, S, d].
  const std::vector<at::Tensor> value = {random.normal({3, 2, 50, 8}),
                                         random.normal({3, 1, 50, 8})};
  const AttendPlan plan = fit_attend(value, kNoHeads, 4, AttentionRecipe{}, true);
  EXPECT_EQ(plan.value.scale.sizes(), (std::vector<std::int64_t>{8}));
  const ScoresPlan scores =
      fit_scores(value, {value[0].mT(), value[1].mT()}, ScoresSite{}, 4, AttentionRecipe{});
  EXPECT_EQ(scores.left.scale.numel(), 1);
}

// Codes for what moves of a channel would leave out what it is, if nothing makes up for that.
TEST(FitAttend, ChannelsThatHardlyMoveKeepTheirValue) {
  testing::Random random(7);
  const at::Tensor value = random.normal({2, 50, 8}) * 1e-3 + at::linspace(-1, 1, 8);
  const AttendPlan plan = fit_attend({value}, {.columns = true}, 8, {}, /*mean_returns=*/false);
  EXPECT_LT((fake_quantize(value, plan.value) - value).abs().max().item<double>(), 4e-3);
}

/// Scores of fitted grids against exact ones, both without the constant of each row.
double score_error(const ScoresPlan& plan, const at::Tensor& q, const at::Tensor& k) {
  const at::Tensor error = simulate_scores(plan, q, k.mT()) - at::matmul(q, k.mT());
  return (error - error.mean(-1, true)).square().mean().item<double>();
}

ScoresPlan fitted(const at::Tensor& q, const at::Tensor& k, bool equalization,
                  ScoresSite site = {.channels = true}) {
  AttentionRecipe recipe;
  recipe.equalization = equalization;
  site.heads = q.dim() > 3;
  return fit_scores({q}, {k.mT()}, site, 4, recipe);
}

TEST(FitScores, KeysAreCentredBySoftmax) {
  testing::Random random(6);
  for (const bool heads : {true, false}) {
    at::Tensor q = random.normal({2, 3, 60, 8}), k = random.normal({2, 3, 50, 8});
    k += random.normal({3, 1, 8}) * 6;
    if (!heads) {
      q = q.select(1, 0).contiguous();
      k = k.select(1, 0).contiguous();
    }
    const ScoresPlan plan = fitted(q, k, true);
    EXPECT_NE(describe(plan).find("keys centred"), std::string::npos) << describe(plan);
    const auto sizes = heads ? std::vector<std::int64_t>{3, 8, 1} : std::vector<std::int64_t>{8, 1};
    EXPECT_EQ(plan.right.zero_point.sizes(), sizes);
    EXPECT_TRUE(at::equal(plan.right.zero_point, plan.right.zero_point.round()));
    EXPECT_LT(score_error(plan, q, k), 0.4 * score_error(fitted(q, k, false), q, k));
    // One scale does for all channels of the product.
    const at::Tensor exact =
        at::matmul(fake_quantize(q, plan.left), fake_quantize(k.mT(), plan.right));
    EXPECT_TRUE(at::allclose(simulate_scores(plan, q, k.mT()), exact, 1e-4, 1e-3));
  }
}

TEST(FitScores, TokensGetScalesWhereThatLosesLess) {
  testing::Random random(8);
  at::Tensor q = random.normal({2, 3, 60, 8}), k = random.normal({2, 3, 50, 8});
  const auto fit = [&](bool by_token, int bits) {
    return fit_scores({q}, {k.mT()}, {.heads = true, .channels = true}, bits, AttentionRecipe{},
                      by_token);
  };
  q *= random.normal({2, 3, 60, 1}).exp();  // tokens of different size
  k *= random.normal({2, 3, 50, 1}).exp();
  for (const int bits : {3, 4, 8}) {
    const ScoresPlan plan = fit(true, bits);
    EXPECT_TRUE(plan.left.per_token && plan.right.per_token) << bits;
    EXPECT_NE(describe(plan).find("a scale per token"), std::string::npos) << describe(plan);
    EXPECT_FALSE(fit(false, bits).left.per_token);
    EXPECT_LT(score_error(plan, q, k), 0.6 * score_error(fit(false, bits), q, k)) << bits;
  }
  // All tokens alike, in channels of two values: one grid has them exactly.
  q = random.normal({2, 3, 60, 8}).sign();
  k = random.normal({2, 3, 50, 8}).sign();
  k.select(-1, 0).fill_(1);
  EXPECT_FALSE(fit(true, 8).left.per_token && score_error(fit(true, 8), q, k) > 1e-3);
}

TEST(FitScores, ChannelsAreEqualized) {
  testing::Random random(7);
  const at::Tensor width = at::logspace(-1, 1, 8);
  const at::Tensor q = random.normal({2, 3, 60, 8}) * width;
  const at::Tensor k = random.normal({2, 3, 50, 8}) / width;
  const ScoresPlan plan = fitted(q, k, true);
  EXPECT_NE(describe(plan).find("channels equalized"), std::string::npos) << describe(plan);
  EXPECT_EQ(plan.left.scale.sizes(), (std::vector<std::int64_t>{3, 1, 8}));
  EXPECT_EQ(plan.scale().sizes(), (std::vector<std::int64_t>{3, 1, 1}));
  EXPECT_LT(score_error(plan, q, k), 0.2 * score_error(fitted(q, k, false), q, k));
}

TEST(FitScores, MeansThatFloat32CannotTakeAwayStay) {
  testing::Random random(9);
  const at::Tensor q = random.normal({2, 3, 60, 8}), k = random.normal({2, 3, 50, 8}) + 1e6;
  EXPECT_EQ(describe(fitted(q, k, true)), "per head");
}

TEST(FitScores, NothingIsEqualizedWhereItDoesNotPay) {
  testing::Random random(8);
  const at::Tensor q = random.normal({2, 3, 60, 8}), k = random.normal({2, 3, 50, 8});
  EXPECT_EQ(describe(fitted(q, k, true)), "per head");
  // Without a softmax the mean of the keys counts, and tokens have no grids of their own.
  const at::Tensor shifted = k + 6;
  EXPECT_NE(describe(fitted(q, shifted, true)), "per head");
  EXPECT_EQ(describe(fitted(q, shifted, true, {.softmax = false, .channels = true})), "per head");
  EXPECT_EQ(describe(fitted(q, shifted, true, {.channels = false})), "per head");
}

TEST(FitAttend, OnlyParitySplitsDoWithoutATable) {
  testing::Random random(3);
  const std::vector<at::Tensor> value = {random.normal({1, 1, 20, 4})};
  AttentionRecipe recipe;
  EXPECT_TRUE(fit_attend(value, kHeads, 4, recipe, true).grid.u8_table);
  EXPECT_EQ(fit_attend(value, kHeads, 4, recipe, true).grid.steps_per_octave, 1.5);
  recipe.log_steps_per_octave = 2;
  EXPECT_FALSE(fit_attend(value, kHeads, 4, recipe, true).grid.u8_table);
  EXPECT_TRUE(fit_attend(value, kHeads, 6, recipe, true).grid.u8_table);
}

TEST(FitAttend, TheTableKeepsAllItsCodesApart) {
  testing::Random random(4);
  const std::vector<at::Tensor> value = {random.normal({1, 1, 20, 4})};
  for (const int bits : {3, 4}) {
    const LogGrid grid = fit_attend(value, kHeads, bits, AttentionRecipe{}, true).grid;
    const at::Tensor table = log_table(grid);
    // Nothing above the zero code that 8 bits could not tell from its neighbour, but the last three
    // (-8 octaves, beyond, 0).
    const at::Tensor steps = table.slice(0, 0, -4) - table.slice(0, 1, -3);
    EXPECT_GT(steps.min().item<double>(), 0.5 / 255) << bits;
  }
}

}  // namespace
}  // namespace repquant
