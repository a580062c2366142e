// Range search for layer-wise and per-head grids: clipping factors of both ends, found separately.
//
// All searches are deterministic and minimise tr(dX G dX^T) over sample rows, dX = x^ - x, where
// G [K, K] is the Gram matrix of whatever consumes x (W^T W for a Linear; K^T K for q): the squared
// error of the consumer's output. Without G the plain squared error is taken.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "quantizer/affine.h"
#include "quantizer/quadratic.h"

namespace repquant {

struct Range {
  double lower;
  double upper;
};

struct SearchOptions {
  std::int64_t max_rows = 1024;  // sample_rows() of at most this many
  bool centred_error = false;    // score dX without its mean (which a bias correction removes)
  at::Tensor row_weights;        // float64 [n], what rows count (undefined: all alike)
};

/// One grid for all of x [n, K] (scale, zero_point [1]). The range always contains 0.
/// The extremes are taken from all rows, the error from the sub-sampled ones.
AffineGrid search_per_tensor(const at::Tensor& x, const at::Tensor& gram, int bits,
                             const SearchOptions& options = {});

/// One grid per head for x [n, H, d], gram [H, d, d] or undefined: scale, zero_point [H].
/// Reshape both to [H, 1] or [H, 1, 1] to broadcast over [n, H, d] or [H, n, d].
AffineGrid search_per_head(const at::Tensor& x, const at::Tensor& gram, int bits,
                           const SearchOptions& options = {});

/// Scale and zero point of a quadratic grid for x [n, K]; bits 2..4.
QuadraticGrid search_quadratic(const at::Tensor& x, const at::Tensor& gram, int bits,
                               const SearchOptions& options = {});

/// The error that the searches minimise, per row, for a given x^: tr(dX G dX^T) / n in double.
double output_error(const at::Tensor& x, const at::Tensor& quantized, const at::Tensor& gram,
                    bool centred_error = false);

/// Rising indices of the channels whose absolute maximum exceeds threshold times the median of
/// channel_absmax [K]. Empty where the median is 0 or threshold <= 0.
std::vector<std::int64_t> massive_channels(const at::Tensor& channel_absmax, double threshold);

}  // namespace repquant
