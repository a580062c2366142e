#include "fit/fit_weight.h"

#include <ATen/ATen.h>

#include <array>
#include <vector>

#include "fit/rows.h"
#include "gptq/compensation.h"
#include "gptq/gptq.h"
#include "gptq/hessian.h"
#include "gptq/shrinkage.h"
#include "tensor/parallel.h"

namespace repquant {
namespace {

constexpr std::int64_t kChunksPerHalf = 4;  // fixed, so that results do not depend on threads

/// target - side - s codes W^T - bias.
at::Tensor errors_of(const WeightProblem& problem) {
  at::Tensor errors = at::empty_like(problem.target);
  const std::int64_t rows = errors.size(0), chunk = (rows + 7) / 8;
  const at::Tensor scaled = (problem.weight * problem.scale).t();
  parallel_for(8, problem.threads, [&](std::int64_t i) {
    const std::int64_t from = std::min(rows, i * chunk), to = std::min(rows, from + chunk);
    if (from == to) return;
    at::Tensor part = errors.slice(0, from, to);
    part.copy_(problem.target.slice(0, from, to)).sub_(problem.bias);
    if (problem.side.defined()) part.sub_(problem.side.slice(0, from, to));
    part.addmm_(problem.codes.slice(0, from, to), scaled, 1, -1);
  });
  return errors;
}

/// sum e x^T over rows [from, to), float64, in fixed chunks.
at::Tensor cross_moment(const at::Tensor& errors, const at::Tensor& codes, std::int64_t from,
                        std::int64_t to, int threads) {
  std::vector<at::Tensor> parts(kChunksPerHalf);
  const std::int64_t chunk = (to - from + kChunksPerHalf - 1) / kChunksPerHalf;
  parallel_for(kChunksPerHalf, threads, [&](std::int64_t i) {
    const std::int64_t begin = std::min(to, from + i * chunk), end = std::min(to, begin + chunk);
    parts[static_cast<std::size_t>(i)] =
        at::mm(errors.slice(0, begin, end).t(), codes.slice(0, begin, end)).to(at::kDouble);
  });
  at::Tensor sum = parts[0];
  for (std::size_t i = 1; i < parts.size(); ++i) sum = sum + parts[i];
  return sum;
}

}  // namespace

PreparedWeight prepare_weight(const WeightProblem& problem, const WeightRecipe& recipe) {
  const bool centred = recipe.bias_correction;
  PreparedWeight prepared{.weight = problem.weight,
                          .hessian = {},
                          .mean = weighted_mean(problem.codes, problem.row_weights),
                          .recipe = recipe,
                          .rounded = problem.rounded};
  if (problem.rounded != nullptr) return prepared;
  // Rows enter the sums times the root of their weight, about their mean where the bias takes up
  // the mean error.
  at::Tensor root, codes = problem.codes;
  if (problem.row_weights.defined()) root = problem.row_weights.sqrt().to(at::kFloat).unsqueeze(1);
  if (centred) codes = codes - prepared.mean.to(at::kFloat);
  if (root.defined()) codes = codes * root;
  const std::int64_t rows = codes.size(0), half = rows / 2;
  const double counted = counted_rows(problem.row_weights, rows);

  if (recipe.compensation != Compensation::kNone && half > 0) {
    at::Tensor errors = errors_of(problem);
    if (centred) errors.sub_(weighted_mean(errors, problem.row_weights).to(at::kFloat));
    if (root.defined()) errors.mul_(root);
    std::array<ErrorMoments, 2> halves;
    for (std::size_t i = 0; i < 2; ++i) {
      const std::int64_t from = i == 0 ? 0 : half, to = i == 0 ? half : rows;
      halves[i].hessian = accumulate_hessian({codes.slice(0, from, to)}, problem.threads).hessian();
      halves[i].cross = cross_moment(errors, codes, from, to, problem.threads);
    }
    prepared.hessian = halves[0].hessian + halves[1].hessian;
    const WeightChange change = compensate(halves, counted);
    prepared.compensation = change.strength;
    // Errors are in units of the output, codes in units of s.
    prepared.weight =
        (problem.weight.to(at::kDouble) + change.change / problem.scale).to(at::kFloat);
  } else {
    prepared.hessian = accumulate_hessian({codes}, problem.threads).hessian();
  }
  prepared.recipe = with_damping(recipe, prepared.hessian, counted);
  return prepared;
}

WeightRecipe with_damping(const WeightRecipe& recipe, const at::Tensor& hessian, double rows) {
  WeightRecipe damped = recipe;
  if (recipe.shrinkage) {
    damped.damping = std::max(recipe.damping, shrinkage_damping(hessian, rows));
  }
  return damped;
}

FittedWeight round_weight(const PreparedWeight& prepared, const at::Tensor& bias,
                          const at::Tensor& missing, double scale, int bits, int threads) {
  FittedWeight fitted;
  fitted.compensation = prepared.compensation;
  fitted.weight = prepared.rounded != nullptr ? *prepared.rounded
                                              : quantize_weight(prepared.weight, prepared.hessian,
                                                                bits, prepared.recipe, threads);
  fitted.bias = bias;
  if (prepared.recipe.bias_correction) {
    const at::Tensor product = at::mv(fitted.weight.dequantize().to(at::kDouble), prepared.mean);
    fitted.bias = (missing - product * scale).to(at::kFloat);
  }
  return fitted;
}

FittedWeight fit_weight(const WeightProblem& problem, const WeightRecipe& recipe) {
  const PreparedWeight prepared = prepare_weight(problem, recipe);
  at::Tensor missing;
  if (recipe.bias_correction) {
    missing = weighted_mean(problem.target, problem.row_weights);
    if (problem.side.defined()) {
      missing = missing - weighted_mean(problem.side, problem.row_weights);
    }
  }
  return round_weight(prepared, problem.bias, missing, problem.scale, problem.bits,
                      problem.threads);
}

}  // namespace repquant
