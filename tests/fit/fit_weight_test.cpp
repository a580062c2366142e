#include "fit/fit_weight.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/random.h"

namespace repquant {
namespace {

struct Data {
  WeightProblem problem;
  at::Tensor x;
};

/// Codes are a noisy, scaled form of the input: x^ = 0.5 codes.
Data noisy_problem(int bits) {
  testing::Random random(11);
  Data data;
  data.x = random.normal({1200, 24});
  const at::Tensor weight = random.normal({10, 24});
  const at::Tensor bias = random.normal({10});
  data.problem.weight = weight;
  data.problem.bias = bias;
  data.problem.scale = 0.5;
  data.problem.codes = at::round((data.x + 0.3) / 0.5).clamp(-2, 2);
  data.problem.target = at::linear(data.x, weight, bias);
  data.problem.bits = bits;
  return data;
}

double error_of(const WeightProblem& problem, const FittedWeight& fitted,
                const at::Tensor& row_weights = {}) {
  const at::Tensor output =
      at::linear(problem.codes * problem.scale, fitted.weight.dequantize(), fitted.bias);
  at::Tensor square = (output - problem.target).square().sum(1).to(at::kDouble);
  if (row_weights.defined()) square = square * row_weights;
  return square.mean().item<double>();
}

WeightRecipe recipe_with(Compensation compensation) {
  WeightRecipe recipe;
  recipe.compensation = compensation;
  return recipe;
}

TEST(FitWeight, CompensationLowersTheError) {
  const Data data = noisy_problem(8);
  const auto plain = fit_weight(data.problem, recipe_with(Compensation::kNone));
  const auto compensated = fit_weight(data.problem, recipe_with(Compensation::kInput));
  EXPECT_EQ(plain.compensation, 0.0);
  EXPECT_GT(compensated.compensation, 0.8);
  EXPECT_LT(error_of(data.problem, compensated), 0.9 * error_of(data.problem, plain));
}

TEST(FitWeight, BiasTakesUpTheMeanError) {
  Data data = noisy_problem(4);
  testing::Random random(12);
  data.problem.row_weights = random.uniform({1200}, 0.1, 1.9).to(at::kDouble);
  const auto fitted = fit_weight(data.problem, recipe_with(Compensation::kInput));
  const at::Tensor error =
      at::linear(data.problem.codes * data.problem.scale, fitted.weight.dequantize(), fitted.bias) -
      data.problem.target;
  const at::Tensor mean = at::mv(error.to(at::kDouble).t(), data.problem.row_weights) / 1200;
  EXPECT_LT(mean.abs().max().item<double>(), 1e-4);
}

TEST(FitWeight, EqualRowWeightsChangeNothing) {
  Data data = noisy_problem(4);
  const auto plain = fit_weight(data.problem, recipe_with(Compensation::kNone));
  data.problem.row_weights = at::ones({1200}, at::kDouble);
  const auto weighted = fit_weight(data.problem, recipe_with(Compensation::kNone));
  EXPECT_TRUE(at::equal(plain.weight.codes, weighted.weight.codes));
}

TEST(FitWeight, RowsThatCountComeOutBetter) {
  Data data = noisy_problem(3);
  const auto even = fit_weight(data.problem, recipe_with(Compensation::kInput));
  const at::Tensor weights =
      at::cat({at::full({300}, 3.7, at::kDouble), at::full({900}, 0.1, at::kDouble)});
  data.problem.row_weights = weights;
  const auto weighted = fit_weight(data.problem, recipe_with(Compensation::kInput));
  EXPECT_LT(error_of(data.problem, weighted, weights), error_of(data.problem, even, weights));
}

TEST(FitWeight, DoesNotDependOnThreads) {
  Data data = noisy_problem(4);
  const auto one = fit_weight(data.problem, recipe_with(Compensation::kInput));
  data.problem.threads = 3;
  const auto three = fit_weight(data.problem, recipe_with(Compensation::kInput));
  EXPECT_TRUE(at::equal(one.weight.codes, three.weight.codes));
  EXPECT_TRUE(at::equal(one.weight.scale, three.weight.scale));
  EXPECT_TRUE(at::equal(one.bias, three.bias));
}

}  // namespace
}  // namespace repquant
