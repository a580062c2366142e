// Windows of tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "ops/kernels/plane.h"

namespace repquant::ops {

/// Of x [B, sizes.., C] in 1 or 2 dimensions. Throws c10::Error in the name of an operator for
/// numbers that make no window.
Plane plane_of(const char* name, const at::Tensor& x, at::IntArrayRef before, at::IntArrayRef after,
               at::IntArrayRef kernel, at::IntArrayRef stride, at::IntArrayRef dilation);

/// [B, grid.., last] for windows of x.
std::vector<std::int64_t> grid_sizes(const Plane& plane, const at::Tensor& x, std::int64_t last);

}  // namespace repquant::ops
