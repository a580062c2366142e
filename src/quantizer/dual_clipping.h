// Per-channel dual clipping (RepQuant, arXiv 2402.05628): every channel has its own lower and upper
// clipping factor in (0, 1], found separately:
//   lower = m - beta (m - min),  upper = m + alpha (max - m),
// with the centre m = 0 where the channel's range contains 0 and m = its mean elsewhere (a factor
// on the end itself would cross the range or widen it for one-sided channels).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "repquant/recipe.h"

namespace repquant {

struct ChannelRange {
  at::Tensor lower;  // float32 [C]
  at::Tensor upper;  // float32 [C], >= lower
};

struct ClippingOptions {
  bool integer_zero_point = true;  // score with rounded zero points, as the grid will have them
  bool centred_error = false;      // score dX without its mean (which a bias correction removes)
  at::Tensor row_weights;          // float64 [n], what rows count (undefined: all alike)
  std::int64_t max_rows = 2048;    // sample_rows() of at most this many
  int steps = 100;                 // kLearned: Adam steps
};

/// Ranges of the channels of x [n, C] for a grid of 2^bits levels each. gram [C, C] is the sum over
/// the consumers of W^T W (undefined: identity).
///  kMinMax      the extremes.
///  kPercentile  a grid of percentiles for each side, by the channel's squared error.
///  kSearch      kPercentile, then coordinate descent on the layer-output error tr(dX G dX^T).
///  kLearned     the paper's: factors sigmoid(theta), Adam on the layer-output error with the
///               straight-through estimator; the best iterate is returned.
/// Never worse on the layer-output error of the used rows than kMinMax (kSearch, kLearned).
ChannelRange clip_channels(const at::Tensor& x, const at::Tensor& gram, int bits, Clipping method,
                           const ClippingOptions& options = {});

}  // namespace repquant
