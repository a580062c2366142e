// Fits weight and bias of one Linear site whose input codes are decided.
#pragma once

#include <ATen/core/Tensor.h>

#include "fit/weight_sums.h"
#include "plan/site_plan.h"
#include "repquant/recipe.h"

namespace repquant {

struct FittedWeight {
  QuantizedWeight weight;
  at::Tensor bias;            // float32 [N]
  double compensation = 0.0;  // strength, see gptq/compensation.h
};

/// What rounding needs to know of the rows, whatever the bits.
struct PreparedWeight {
  at::Tensor weight;    // float32 [N, K], compensated
  at::Tensor bias;      // float32 [N], without correction
  at::Tensor hessian;   // float64 [K, K], or [K] (fit/column_pairs.h); undefined where codes stay
  at::Tensor mean;      // float64 [K], of the codes
  at::Tensor target;    // float64 [N], mean of the target
  double scale = 1.0;   // of the problem
  WeightRecipe recipe;  // with the damping that this Hessian needs
  double compensation = 0.0;
};

/// The recipe for a weight behind this input, or null for one that stays in floating point: its
/// groups of columns are those of the input's grids, of which a product adds one after the other.
WeightRecipe weight_recipe(const WeightRecipe& recipe, const InputQuantizer* input);

/// Compensates (recipe.compensation; only towards a target) and measures the Hessian.
PreparedWeight prepare_weight(const WeightProblem& problem, const WeightRecipe& recipe);

/// Rounds to `bits` and, with prepared.recipe.bias_correction, corrects the bias.
FittedWeight round_weight(const PreparedWeight& prepared, int bits, int threads);

/// The bias of codes that stay: no Hessian is measured.
FittedWeight keep_weight(const WeightProblem& problem, const QuantizedWeight& rounded,
                         const WeightRecipe& recipe);

}  // namespace repquant
