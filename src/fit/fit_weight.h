// Fits weight and bias of one Linear site whose input codes are decided.
#pragma once

#include <ATen/core/Tensor.h>

#include "plan/site_plan.h"
#include "repquant/recipe.h"

namespace repquant {

/// One Linear as a least-squares problem: target ~ s codes W^T + side + bias over all rows.
/// Under a grid per token s is 1 and a row of `codes` is multiplied by the row's scale.
struct WeightProblem {
  at::Tensor weight;       // float32 [N, K], folded
  at::Tensor bias;         // float32 [N], folded: belongs to `weight`
  at::Tensor codes;        // float32 [n, K], zero point taken out
  at::Tensor target;       // float32 [n, N], with bias
  at::Tensor side;         // float32 [n, N]: what the side columns add; or undefined
  double scale = 1.0;      // s
  at::Tensor row_weights;  // float64 [n], mean 1; or undefined
  const QuantizedWeight* rounded = nullptr;  // codes that stay: only the bias is fitted
  int bits = 8;
  int threads = 1;
};

struct FittedWeight {
  QuantizedWeight weight;
  at::Tensor bias;            // float32 [N]
  double compensation = 0.0;  // strength, see gptq/compensation.h
};

/// What rounding needs to know of the rows, whatever the bits.
struct PreparedWeight {
  at::Tensor weight;    // float32 [N, K], compensated
  at::Tensor hessian;   // float64 [K, K]
  at::Tensor mean;      // float64 [K], of the codes
  WeightRecipe recipe;  // with the damping that this Hessian needs
  double compensation = 0.0;
  const QuantizedWeight* rounded = nullptr;  // of the problem
};

/// Compensates (recipe.compensation) and measures the Hessian. Of a problem without a target
/// (recipe.compensation kNone only) no output is read.
PreparedWeight prepare_weight(const WeightProblem& problem, const WeightRecipe& recipe);

/// Rounds to `bits` and, with prepared.recipe.bias_correction, corrects the bias: `missing` float64
/// [N] is the weighted mean of target - side. `bias` and `scale` as in WeightProblem.
FittedWeight round_weight(const PreparedWeight& prepared, const at::Tensor& bias,
                          const at::Tensor& missing, double scale, int bits, int threads);

/// The damping that `hessian` [K, K] of so many (effective) rows needs.
WeightRecipe with_damping(const WeightRecipe& recipe, const at::Tensor& hessian, double rows);

/// Prepares, rounds to problem.bits, and corrects the bias (recipe.bias_correction).
FittedWeight fit_weight(const WeightProblem& problem, const WeightRecipe& recipe);

}  // namespace repquant
