#include "quantizer/norm_fold.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "quantizer/range_search.h"
#include "repquant/error.h"
#include "support/random.h"

namespace repquant {
namespace {

AffineGrid channel_grid(const at::Tensor& x, int bits) {
  return affine_grid(at::amin(x, 0), at::amax(x, 0), bits);
}

double relative(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

/// x' = x / r - b: what a folded norm puts out.
at::Tensor fold(const at::Tensor& x, const FoldPlan& plan) { return x / plan.ratio - plan.shift; }

/// The layer-wise grid of x'.
AffineGrid layer_grid(const FoldPlan& plan) {
  return {plan.bits, at::full({1}, plan.scale, at::kFloat),
          at::full({1}, static_cast<double>(plan.zero_point), at::kFloat)};
}

TEST(Fold, ByHand) {
  const AffineGrid grid{4, at::tensor({1.0F, 3.0F}), at::tensor({4.0F, 9.0F})};
  const FoldPlan plan = plan_fold(grid);
  EXPECT_EQ(plan.scale, 2.0);
  EXPECT_EQ(plan.zero_point, 6);  // 6.5 rounds half to even
  EXPECT_TRUE(at::equal(plan.ratio, at::tensor({0.5F, 1.5F})));
  EXPECT_TRUE(at::equal(plan.shift, at::tensor({4.0F, -6.0F})));  // -2 (4 - 6), -2 (9 - 6)
}

TEST(Fold, CodesAndValuesAreKept) {
  testing::Random random(2);
  const at::Tensor x =
      random.normal({200, 24}) * random.uniform({24}, 0.1, 4.0) + random.normal({24}) * 2;
  for (const bool integer_zero_point : {true, false}) {
    const AffineGrid channels =
        affine_grid(at::amin(x, 0) * 0.7, at::amax(x, 0) * 0.8, 4, integer_zero_point);
    const FoldPlan plan = plan_fold(channels);
    const AffineGrid layer = layer_grid(plan);
    const at::Tensor folded = fold(x, plan);
    const at::Tensor before = quantize(x, channels);
    const at::Tensor after = quantize(folded, layer);
    // Equal codes, but for values that lie between two codes to within float32.
    EXPECT_LE((before - after).abs().max().item<double>(), 1);
    EXPECT_LT(at::ne(before, after).to(at::kFloat).mean().item<double>(), 2e-3);
    // x^ = r (x'^ + b), code by code.
    const at::Tensor unfolded = (dequantize(before, layer) + plan.shift) * plan.ratio;
    EXPECT_LT(relative(unfolded, dequantize(before, channels)), 1e-5);
  }
}

TEST(Fold, ScaleOnlyKeepsZeroAndNeedsNoOffset) {
  testing::Random random(4);
  const at::Tensor x = random.normal({100, 6}) * random.uniform({6}, 0.2, 3);
  const at::Tensor limit = at::amax(x.abs(), 0);
  const FoldPlan plan = plan_scale_fold(affine_grid(-limit, limit, 4), 8);
  EXPECT_TRUE(at::equal(plan.shift, at::zeros({6})));
  EXPECT_TRUE(at::equal(fold(at::zeros({1, 6}), plan), at::zeros({1, 6})));
}

TEST(Fold, ZeroPointStaysAmongTheCodes) {
  // One-sided channels have zero points far outside; the layer-wise one must not.
  const AffineGrid grid = affine_grid(at::tensor({50.0F, 80.0F}), at::tensor({51.0F, 83.0F}), 4);
  EXPECT_LT(grid.zero_point.max().item<double>(), 0);
  const FoldPlan plan = plan_fold(grid);
  EXPECT_EQ(plan.zero_point, 0);
  const at::Tensor x = at::tensor({50.4F, 81.0F}).view({1, 2});
  EXPECT_TRUE(at::equal(quantize(x, grid), quantize(fold(x, plan), layer_grid(plan))));
}

TEST(Fold, ExponentLeavesPartOfTheSpread) {
  testing::Random random(5);
  const at::Tensor x = random.normal({400, 16}) * random.uniform({16}, 0.1, 5) + 0.3;
  const AffineGrid channels = channel_grid(x, 4);
  const at::Tensor gram = at::eye(16);
  const auto spread = [](const at::Tensor& r) { return (r.max() / r.min()).item<double>(); };
  double before = 0;
  for (const double exponent : {0.0, 0.5, 1.0}) {
    const FoldPlan plan = search_fold(channels, exponent, x, gram);
    EXPECT_GE(spread(plan.ratio), before);
    before = spread(plan.ratio);
    EXPECT_NEAR(spread(plan.ratio), std::pow(spread(channels.scale), exponent), 1e-3);
    // The plan's own channel grid describes what the layer-wise codes mean.
    const at::Tensor codes = quantize(fold(x, plan), layer_grid(plan));
    const at::Tensor value = (dequantize(codes, layer_grid(plan)) + plan.shift) * plan.ratio;
    EXPECT_LT(relative(value, dequantize(codes, plan.channel_grid())), 1e-5);
    EXPECT_TRUE(at::equal(at::round(plan.channel_zero_point), plan.channel_zero_point));
  }
  // Without any spread left, the folded quantizer is the per-tensor one.
  EXPECT_NEAR(spread(search_fold(channels, 0.0, x, gram).ratio), 1, 1e-6);
  // The searched target is at least as good as the mean.
  const auto error = [&](const FoldPlan& plan) {
    return output_error(x, fake_quantize(x, plan.channel_grid()), gram);
  };
  EXPECT_LE(error(search_fold(channels, 0.5, x, gram)), error(plan_fold(channels, 0.5)));
}

TEST(Fold, RejectsBadInput) {
  const AffineGrid grid{4, at::tensor({1.0F, 0.0F}), at::zeros({2})};
  EXPECT_THROW(plan_fold(grid), Error);
  const AffineGrid good{4, at::ones({2}), at::zeros({2})};
  EXPECT_THROW(plan_fold(good, 1.5), Error);
  EXPECT_THROW(plan_scale_fold(good, 16), Error);
}

}  // namespace
}  // namespace repquant
