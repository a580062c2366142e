// PIL's antialiased resize, bit by bit.
#pragma once

#include "data/image.h"

namespace repquant {

enum class Interpolation { kBilinear, kBicubic };

/// Resizes to width x height exactly as PIL's `Image.resize((width, height), resample)`: the filter
/// widens with the reduction (antialiasing), coefficients have 22 fractional bits, and the result
/// of the first pass is rounded to 8 bits before the second. Measured against Pillow 13, which
/// takes the vertical pass first where the height shrinks by more than twice what the width does.
/// Throws Error kUsage unless 1 <= width, height <= 65535 and the source is not empty.
Image resize(const Image& image, int width, int height, Interpolation interpolation);

}  // namespace repquant
