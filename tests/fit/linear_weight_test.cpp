#include "fit/linear_weight.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <memory>

#include "fit/column_pairs.h"
#include "plan/simulate.h"
#include "support/random.h"

namespace repquant {
namespace {

struct Data {
  at::Tensor x, codes, target;
  std::unique_ptr<SourceRows> rows;
  WeightProblem problem;
};

/// Codes are a noisy, scaled form of the input: x^ = 0.5 codes.
Data noisy_problem() {
  testing::Random random(11);
  Data data;
  data.x = random.normal({1200, 24});
  data.problem.weight = random.normal({10, 24});
  data.problem.bias = random.normal({10});
  data.problem.scale = 0.5;
  data.codes = at::round((data.x + 0.3) / 0.5).clamp(-2, 2);
  data.target = at::linear(data.x, data.problem.weight, data.problem.bias);
  data.rows = std::make_unique<SourceRows>(rows_in_memory({data.x}), "site", 1);
  data.problem.rows = data.rows.get();
  data.problem.codes = [](const at::Tensor& x) { return at::round((x + 0.3) / 0.5).clamp(-2, 2); };
  data.problem.target = [target = data.target](const RowBlock& block) {
    return target.slice(0, block.from, block.to).clone();
  };
  return data;
}

FittedWeight fit(const WeightProblem& problem, const WeightRecipe& recipe, int bits) {
  return round_weight(prepare_weight(problem, recipe), bits, problem.threads);
}

at::Tensor error_rows(const Data& data, const FittedWeight& fitted) {
  return at::linear(data.codes * data.problem.scale, fitted.weight.dequantize(), fitted.bias) -
         data.target;
}

double error_of(const Data& data, const FittedWeight& fitted, const at::Tensor& row_weights = {}) {
  at::Tensor square = error_rows(data, fitted).square().sum(1).to(at::kDouble);
  if (row_weights.defined()) square = square * row_weights;
  return square.mean().item<double>();
}

WeightRecipe recipe_with(Compensation compensation) {
  WeightRecipe recipe;
  recipe.compensation = compensation;
  return recipe;
}

TEST(LinearWeight, CompensationLowersTheError) {
  const Data data = noisy_problem();
  const auto plain = fit(data.problem, recipe_with(Compensation::kNone), 8);
  const auto compensated = fit(data.problem, recipe_with(Compensation::kInput), 8);
  EXPECT_EQ(plain.compensation, 0.0);
  EXPECT_GT(compensated.compensation, 0.8);
  EXPECT_LT(error_of(data, compensated), 0.9 * error_of(data, plain));
}

TEST(LinearWeight, BiasTakesUpTheMeanError) {
  Data data = noisy_problem();
  data.problem.row_weights = testing::Random(12).uniform({1200}, 0.1, 1.9).to(at::kDouble);
  WeightRecipe nearest;
  nearest.rounding = WeightRounding::kNearest;
  const QuantizedWeight stays = quantize_weight(data.problem.weight, {}, 4, nearest);
  for (const FittedWeight& fitted :
       {fit(data.problem, recipe_with(Compensation::kInput), 4),
        keep_weight(data.problem, stays, recipe_with(Compensation::kInput))}) {
    const at::Tensor mean =
        at::mv(error_rows(data, fitted).to(at::kDouble).t(), data.problem.row_weights) / 1200;
    EXPECT_LT(mean.abs().max().item<double>(), 1e-4);
  }
}

TEST(LinearWeight, WithoutATargetTheWeightItselfIsTheTarget) {
  Data data = noisy_problem();
  data.problem.target = {};
  const auto fitted = fit(data.problem, recipe_with(Compensation::kInput), 4);
  EXPECT_EQ(fitted.compensation, 0.0);
  data.target = at::linear(data.codes * data.problem.scale, data.problem.weight, data.problem.bias);
  EXPECT_LT(error_rows(data, fitted).mean(0).abs().max().item<double>(), 1e-4);
  EXPECT_GT(error_of(data, fitted), 0);
}

TEST(LinearWeight, EqualRowWeightsChangeNothing) {
  Data data = noisy_problem();
  const auto plain = fit(data.problem, recipe_with(Compensation::kNone), 4);
  data.problem.row_weights = at::ones({1200}, at::kDouble);
  const auto weighted = fit(data.problem, recipe_with(Compensation::kNone), 4);
  EXPECT_TRUE(at::equal(plain.weight.codes, weighted.weight.codes));
}

TEST(LinearWeight, RowsThatCountComeOutBetter) {
  Data data = noisy_problem();
  const auto even = fit(data.problem, recipe_with(Compensation::kInput), 3);
  const at::Tensor weights =
      at::cat({at::full({300}, 3.7, at::kDouble), at::full({900}, 0.1, at::kDouble)});
  data.problem.row_weights = weights;
  const auto weighted = fit(data.problem, recipe_with(Compensation::kInput), 3);
  EXPECT_LT(error_of(data, weighted, weights), error_of(data, even, weights));
}

TEST(LinearWeight, ManyInputsAndFewRowsGoByTheDiagonal) {
  EXPECT_TRUE(measures_pairs(8192, 1, false));
  EXPECT_FALSE(measures_pairs(8193, 100000, false));
  EXPECT_TRUE(measures_pairs(8196, 2049, true));
  EXPECT_FALSE(measures_pairs(8196, 2048, true));
  EXPECT_FALSE(measures_pairs(16388, 100000, true));

  constexpr std::int64_t kMany = 8200, kFew = 6;
  testing::Random random(13);
  const SourceRows rows(rows_in_memory({random.normal({kFew, kMany})}), "site", 1);
  WeightProblem problem;
  problem.weight = random.normal({3, kMany});
  problem.bias = random.normal({3});
  problem.rows = &rows;
  problem.codes = [](const at::Tensor& x) { return at::round(x * 4) / 4; };
  problem.target = [&](const RowBlock& block) {
    return at::linear(block.x, problem.weight, problem.bias);
  };
  const PreparedWeight prepared = prepare_weight(problem, recipe_with(Compensation::kInput));
  EXPECT_EQ(prepared.hessian.sizes(), at::IntArrayRef({kMany}));
  EXPECT_EQ(prepared.compensation, 0.0);
  const FittedWeight fitted = round_weight(prepared, 8, 1);
  EXPECT_EQ(fitted.weight.outcome, kNearestByDiagonal);
  const at::Tensor x = rows.x(0, kFew);
  const at::Tensor error = at::linear(problem.codes(x), fitted.weight.dequantize(), fitted.bias) -
                           at::linear(x, problem.weight, problem.bias);
  EXPECT_LT(error.mean(0).abs().max().item<double>(), 1e-3);  // the bias takes it up
}

TEST(LinearWeight, DoesNotDependOnThreads) {
  Data data = noisy_problem();
  const auto one = fit(data.problem, recipe_with(Compensation::kInput), 4);
  data.problem.threads = 3;
  const auto three = fit(data.problem, recipe_with(Compensation::kInput), 4);
  EXPECT_TRUE(at::equal(one.weight.codes, three.weight.codes));
  EXPECT_TRUE(at::equal(one.weight.scale, three.weight.scale));
  EXPECT_TRUE(at::equal(one.bias, three.bias));
}

TEST(LinearWeight, GroupsAreThoseOfTheInput) {
  const auto group_size = [](int of_weights, const InputQuantizer* input) {
    WeightRecipe recipe;
    recipe.group_size = of_weights;
    return weight_recipe(recipe, input).group_size;
  };
  const InputQuantizer rows = per_token_quantizer(4);
  InputQuantizer groups = rows;
  groups.group_size = 32;
  EXPECT_EQ(group_size(128, nullptr), 128);  // weight-only
  EXPECT_EQ(group_size(128, &rows), 0);
  EXPECT_EQ(group_size(128, &groups), 32);
  EXPECT_EQ(group_size(0, &groups), 0);
}

}  // namespace
}  // namespace repquant
