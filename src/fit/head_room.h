// How far a range should reach beyond what the calibration data has.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "quantizer/affine.h"

namespace repquant {

/// Both ends of a range, float32, of one shape.
struct Bounds {
  at::Tensor lower;
  at::Tensor upper;
};

/// The bounds of a grid's levels.
Bounds bounds_of(const AffineGrid& grid);

/// Both ends `factor` times as far from `centre` (moved into the range first).
Bounds widened(const Bounds& bounds, const at::Tensor& centre, double factor);

/// Ranges of channels that vary are widened until one of their 2^bits - 1 steps is at least 2^-11
/// of the channel's largest value. A finer step asks for codes that float32 does not determine: x m
/// + a cancels, and whoever computes x in another order gets other codes. The lower end stays a
/// level, so that values close together do not fall on a tie.
Bounds with_reproducible_steps(const Bounds& bounds, int bits);

/// The factor of 1, 1.1, 1.25, 1.5 and 1.9 with the smallest error on data that the range was not
/// fitted on; the smallest one of several.
double choose_head_room(const std::function<double(double)>& held_out_error);

}  // namespace repquant
