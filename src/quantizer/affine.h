// The uniform affine quantizer: q = clamp(round(x / s) + z, 0, 2^b - 1), x^ = s (q - z).
//
// Rounding rule of the whole tool: round half to even (std::nearbyint in the default mode,
// at::round, the hardware's conversion instructions).
#pragma once

#include <ATen/core/Tensor.h>

namespace repquant {

/// Scale and zero point, broadcastable to the data: [1], [C] for the last axis, [H, 1, 1] per head.
struct AffineGrid {
  int bits = 8;           // 2..8, codes are 0 .. 2^bits - 1
  at::Tensor scale;       // float32, > 0
  at::Tensor zero_point;  // float32; integral values unless real offsets were asked for

  int max_code() const { return (1 << bits) - 1; }
};

/// The grid that spans [lower, upper] with 2^bits levels; same shape for both, lower <= upper.
///
/// Ranges that contain 0 get a zero point in [0, 2^bits - 1], so that 0 is a code. One-sided ranges
/// keep a zero point outside of it: such grids are meant for inputs whose offset is folded away
/// (quantizer/norm_fold.h); widen the range to contain 0 where it is not.
/// Constant channels (range below 2^-16 of the magnitude) get a scale near the median scale of the
/// other channels of which the constant is a whole multiple, so it is represented exactly.
/// An end below 1e-30 is 0, so that scales and their reciprocals stay within float32.
/// With integer_zero_point = false the zero point is -lower / scale, not rounded.
/// Throws Error(kNumerical) for non-finite bounds or lower > upper, Error(kInternal) for bits
/// outside 2..8 or shapes that differ.
AffineGrid affine_grid(const at::Tensor& lower, const at::Tensor& upper, int bits,
                       bool integer_zero_point = true);

/// Codes of x as float32, same shape as x.
at::Tensor quantize(const at::Tensor& x, const AffineGrid& grid);
/// Values of codes, float32.
at::Tensor dequantize(const at::Tensor& codes, const AffineGrid& grid);
/// dequantize(quantize(x)).
at::Tensor fake_quantize(const at::Tensor& x, const AffineGrid& grid);

}  // namespace repquant
