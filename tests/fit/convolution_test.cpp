// The fit of convolutions with many groups.
#include "fit/convolution.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "plan/simulate.h"
#include "recipe/json.h"

namespace repquant {
namespace {

GroupedConvolutionSite site_of(const std::vector<std::int64_t>& weight,
                               const ConvolutionShape& shape) {
  return {at::randn(weight), at::randn({weight[0]}), shape};
}

TEST(SampleWindows, AreWindowsOfAllPositionsInOrder) {
  const ConvolutionShape shape{{3, 2}, {2, 1}, {1, 0}, {1, 2}, 1};
  const at::Tensor x = at::arange(2 * 3 * 7 * 6, at::kFloat).view({2, 3, 7, 6}) + 1;
  const at::Tensor all = sample_windows(x, shape, 1000);
  const at::Tensor weight = at::randn({1, 3, 3, 2});
  const at::Tensor expected = convolve(x, weight, {}, shape);
  EXPECT_EQ(all.size(0), expected.numel());
  const at::Tensor got = at::mv(all.flatten(1), weight.flatten());
  EXPECT_TRUE(at::allclose(got, expected.flatten(), 1e-4, 1e-2));
  const at::Tensor some = sample_windows(x, shape, 10);
  EXPECT_EQ(some.size(0), 10);
  EXPECT_EQ(sample_windows(at::zeros({1, 3, 1, 1}), shape, 10).size(0), 0);
}

TEST(FitConvolution, EveryGroupHasAGridAndAWeightOfItsOwn) {
  at::manual_seed(3);
  for (const std::int64_t groups : {4, 8}) {
    const ConvolutionShape shape{{3, 3}, {1, 1}, {1, 1}, {1, 1}, groups};
    const GroupedConvolutionSite site = site_of({8, 8 / groups, 3, 3}, shape);
    // Channels of very different size: a grid for all of them would lose the small ones.
    const at::Tensor size = at::logspace(-2, 2, 8).view({1, 8, 1, 1});
    const at::Tensor x = at::randn({4, 8, 12, 10}) * size, other = at::randn({4, 8, 9, 11}) * size;
    ConvolutionProblem problem;
    problem.path = "depthwise";
    problem.site = &site;
    problem.values = rows_in_memory({x.slice(0, 0, 2), x.slice(0, 2, 4)});
    std::string note;
    const GroupedConvolutionPlan plan = fit_convolution(problem, recipe_for_bits({8, 8}), note);
    const at::Tensor exact = convolve(other, site.weight, site.bias, shape);
    const at::Tensor error = (simulate_convolution(plan, other) - exact).square().mean({0, 2, 3});
    const at::Tensor signal = exact.square().mean({0, 2, 3});
    EXPECT_TRUE((error < 1e-3 * signal).all().item<bool>()) << error / signal;
    EXPECT_EQ(std::get<0>(at::_unique(plan.input.scale)).numel(), groups);
    problem.activation_bits = 16;
    const GroupedConvolutionPlan weights = fit_convolution(problem, recipe_for_bits({4, 16}), note);
    EXPECT_FALSE(weights.quantized_input);
    problem.threads = 3;
    EXPECT_TRUE(at::equal(fit_convolution(problem, recipe_for_bits({4, 16}), note).weight.codes,
                          weights.weight.codes));
  }
}

TEST(FitConvolution, AWeightAloneHasOneScaleForEachChannel) {
  const ConvolutionShape shape{{3, 3}, {1, 1}, {1, 1}, {1, 1}, 2};
  const GroupedConvolutionSite site = site_of({8, 8, 3, 3}, shape);
  ConvolutionProblem problem;
  problem.path = "conv";
  problem.site = &site;
  problem.values = rows_in_memory({at::randn({2, 16, 6, 6})});
  problem.activation_bits = 16;
  std::string note;
  const Recipe groups = recipe_for_bits({4, 16});
  ASSERT_LT(groups.weights.group_size, 72);  // columns
  const GroupedConvolutionPlan plan = fit_convolution(problem, groups, note);
  EXPECT_EQ(plan.weight.scale.sizes(), at::IntArrayRef({8}));
  EXPECT_EQ(plan.weight.group_size, 0);
}

}  // namespace
}  // namespace repquant
