#include "fit/attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

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
  const AttendPlan heads = fit_attend({value}, kHeads, 4, recipe);
  EXPECT_EQ(heads.value.scale.sizes(), (std::vector<std::int64_t>{3, 1, 1}));
  recipe.value_per_channel = true;
  const AttendPlan channels = fit_attend({value}, kHeads, 4, recipe);
  EXPECT_EQ(channels.value.scale.sizes(), (std::vector<std::int64_t>{3, 1, 8}));
  EXPECT_LT(value_error(value, channels), 0.5 * value_error(value, heads));
}

TEST(FitAttend, TokensAsColumnsGetNoGridsOfTheirOwn) {
  testing::Random random(3);
  const AttendPlan plan =
      fit_attend({random.normal({2, 3, 8, 50})}, {.heads = true}, 4, AttentionRecipe{});
  EXPECT_EQ(plan.value.scale.sizes(), (std::vector<std::int64_t>{3, 1, 1}));
}

TEST(FitAttend, GridsPerChannelWithoutHeads) {
  testing::Random random(2);
  const AttendPlan plan = fit_attend({random.normal({2, 50, 8})}, kNoHeads, 4, AttentionRecipe{});
  EXPECT_EQ(plan.value.scale.sizes(), (std::vector<std::int64_t>{8}));
}

TEST(FitAttend, AFourthAxisThatIsNoHeadsGetsNoGridsOfItsOwn) {
  testing::Random random(5);
  // Batches of two sizes in axis -3: [H, B, S, d].
  const std::vector<at::Tensor> value = {random.normal({3, 2, 50, 8}),
                                         random.normal({3, 1, 50, 8})};
  const AttendPlan plan = fit_attend(value, kNoHeads, 4, AttentionRecipe{});
  EXPECT_EQ(plan.value.scale.sizes(), (std::vector<std::int64_t>{8}));
  const ScoresPlan scores =
      fit_scores(value, {value[0].mT(), value[1].mT()}, ScoresSite{}, 4, AttentionRecipe{});
  EXPECT_EQ(scores.left.scale.numel(), 1);
}

TEST(FitAttend, OnlyParitySplitsDoWithoutATable) {
  testing::Random random(3);
  const std::vector<at::Tensor> value = {random.normal({1, 1, 20, 4})};
  AttentionRecipe recipe;
  EXPECT_TRUE(fit_attend(value, kHeads, 4, recipe).grid.u8_table);
  EXPECT_EQ(fit_attend(value, kHeads, 4, recipe).grid.steps_per_octave, 1.5);
  recipe.log_steps_per_octave = 2;
  EXPECT_FALSE(fit_attend(value, kHeads, 4, recipe).grid.u8_table);
  EXPECT_TRUE(fit_attend(value, kHeads, 6, recipe).grid.u8_table);
}

TEST(FitAttend, TheTableKeepsAllItsCodesApart) {
  testing::Random random(4);
  const std::vector<at::Tensor> value = {random.normal({1, 1, 20, 4})};
  for (const int bits : {3, 4}) {
    const LogGrid grid = fit_attend(value, kHeads, bits, AttentionRecipe{}).grid;
    const at::Tensor table = log_table(grid);
    // Nothing above the zero code that 8 bits could not tell from its neighbour, but the last three
    // (-8 octaves, beyond, 0).
    const at::Tensor steps = table.slice(0, 0, -4) - table.slice(0, 1, -3);
    EXPECT_GT(steps.min().item<double>(), 0.5 / 255) << bits;
  }
}

}  // namespace
}  // namespace repquant
