// Fits the grid of a Linear's input: its form, its range, and its side columns.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "fit/fit_linear.h"
#include "plan/site_plan.h"
#include "repquant/recipe.h"

namespace repquant {

struct FittedInput {
  InputQuantizer quantizer;
  SideColumns side;
  std::string note;  // what was compared, "; ..." or empty
};

/// `x` [n, K]: all rows of in.x. Whether the grid is per tensor or per channel (where the recipe
/// leaves it open) and how far ranges reach beyond the calibration data are decided by the error on
/// that half of the rows which a range was not fitted on, both ways. A grid per token has no side
/// columns and is never quadratic, whatever the recipe says of these.
FittedInput fit_input(const at::Tensor& x, const LinearFitInput& in, const Recipe& recipe);

/// Sums over the columns that the side columns take out are zeroed: x or a Gram matrix without
/// them.
at::Tensor without_channels(const at::Tensor& x, const std::vector<std::int64_t>& channels);

}  // namespace repquant
