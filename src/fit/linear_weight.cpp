#include "fit/linear_weight.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <utility>

#include "fit/column_pairs.h"
#include "fit/rows.h"
#include "gptq/compensation.h"
#include "gptq/gptq.h"
#include "gptq/shrinkage.h"

namespace repquant {
namespace {

/// Everything but the compensated weight and the Hessian.
PreparedWeight prepare_means(const WeightProblem& problem, const HalvedSums& sums,
                             const WeightRecipe& recipe) {
  PreparedWeight prepared{.weight = problem.weight,
                          .bias = problem.bias,
                          .hessian = {},
                          .mean = sums.mean_code(),
                          .target = {},
                          .scale = problem.scale,
                          .recipe = recipe};
  const at::Tensor exact = at::mv(problem.weight.to(at::kDouble), prepared.mean) * problem.scale;
  prepared.target = sums.mean_error() + exact + problem.bias;
  return prepared;
}

FittedWeight with_bias(const PreparedWeight& prepared, QuantizedWeight weight) {
  FittedWeight fitted{std::move(weight), prepared.bias, prepared.compensation};
  if (prepared.recipe.bias_correction) {
    const at::Tensor product = at::mv(fitted.weight.dequantize().to(at::kDouble), prepared.mean);
    fitted.bias = (prepared.target - product * prepared.scale).to(at::kFloat);
  }
  return fitted;
}

}  // namespace

WeightRecipe weight_recipe(const WeightRecipe& recipe, const InputQuantizer* input) {
  WeightRecipe result = recipe;
  if (input != nullptr && recipe.group_size > 0) result.group_size = input->group_size;
  return result;
}

PreparedWeight prepare_weight(const WeightProblem& problem, const WeightRecipe& recipe) {
  const std::int64_t rows = problem.rows->size();
  const bool with_target = problem.target != nullptr;
  const bool pairs = measures_pairs(problem.weight.size(1), rows, needs_pairs(recipe, with_target));
  const bool compensates =
      recipe.compensation != Compensation::kNone && with_target && rows > 1 && pairs;
  HalvedSums sums = sum_over_rows(problem, {.diagonal = !pairs, .with_errors = compensates});
  PreparedWeight prepared = prepare_means(problem, sums, recipe);
  const double counted = counted_rows(problem.row_weights, rows);
  if (compensates) {
    std::array<ErrorMoments, 2> halves = moments_of(std::move(sums), recipe.bias_correction);
    const WeightChange change = compensate(halves, counted);
    prepared.compensation = change.strength;
    // Errors are in units of the output, codes in units of s.
    prepared.weight =
        (problem.weight.to(at::kDouble) + change.change / problem.scale).to(at::kFloat);
    prepared.hessian = halves[0].hessian.add_(halves[1].hessian);
  } else {
    prepared.hessian = hessian_of(std::move(sums), recipe.bias_correction);
  }
  if (recipe.shrinkage && pairs && counted > 0) {
    prepared.recipe.damping =
        std::max(recipe.damping, shrinkage_damping(prepared.hessian, counted));
  }
  return prepared;
}

FittedWeight round_weight(const PreparedWeight& prepared, int bits, int threads) {
  return with_bias(
      prepared, quantize_weight(prepared.weight, prepared.hessian, bits, prepared.recipe, threads));
}

FittedWeight keep_weight(const WeightProblem& problem, const QuantizedWeight& rounded,
                         const WeightRecipe& recipe) {
  const HalvedSums sums = sum_over_rows(problem, {.of_codes = false, .with_errors = false});
  return with_bias(prepare_means(problem, sums, recipe), rounded);
}

}  // namespace repquant
