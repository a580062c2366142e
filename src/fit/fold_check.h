// The proof, in every run, that a fold changes nothing: what a reader of the norm computes before
// and after.
#pragma once

#include <ATen/core/Tensor.h>

#include "graph/site.h"
#include "plan/site_plan.h"

namespace repquant {

/// A norm stays unfolded where folding changes what a reader of it computes by more than this, of
/// its largest output.
inline constexpr double kLargestFoldDeviation = 1e-3;

/// How much a fold changes the output of one Linear behind the norm, whose input it moves from x to
/// x / r - b and whose weight and bias to W diag(r) and bias + W diag(r) b, as float32 has these:
/// the largest |difference| relative to the largest |output|. Computed in double on fewer than 128
/// rows of x [.., K], so that it is the fold that is judged and neither the order of sums nor how
/// much the rest of the model makes of a rounding error. Rows that are not finite do not count.
double fold_deviation(const LinearSite& site, const InputQuantizer& quantizer, const at::Tensor& x);

}  // namespace repquant
