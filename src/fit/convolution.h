// Fits a convolution with many groups: each group is a Linear on its windows.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "fit/row_source.h"
#include "graph/site.h"
#include "plan/site_plan.h"
#include "repquant/recipe.h"

namespace repquant {

/// Windows of x [B, C, sizes..] that are drawn from all positions evenly, always the same, in the
/// order of the positions: [rows, C, kernel elements], at most `rows` of them.
at::Tensor sample_windows(const at::Tensor& x, const ConvolutionShape& shape, std::int64_t rows);

/// What the fit needs besides the recipe. `values` reads x [B, C, sizes..] where a Linear's rows
/// are read; no residual.
struct ConvolutionProblem {
  std::string path;  // of the site, for errors
  const GroupedConvolutionSite* site = nullptr;
  RowSource values;
  int weight_bits = 8;
  int activation_bits = 8;  // kWeightOnlyBits: the input stays in floating point
  int threads = 1;
};

/// Each group gets a grid of its own, which costs nothing where no other group reads its input, and
/// is fitted like any Linear (fit/linear.h) on a sample of windows: a group has few weights, so
/// few rows determine them, and the windows of all positions would be many copies of the input.
/// `note` gets what was decided. Throws as fit_linear(), and Error(kNumerical) if there is no
/// window.
GroupedConvolutionPlan fit_convolution(const ConvolutionProblem& problem, const Recipe& given,
                                       std::string& note);

}  // namespace repquant
