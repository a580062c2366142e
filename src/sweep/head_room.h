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

/// The factor of 1, 1.1, 1.25, 1.5 and 1.9 with the smallest error on data that the range was not
/// fitted on; the smallest one of several.
double choose_head_room(const std::function<double(double)>& held_out_error);

}  // namespace repquant
