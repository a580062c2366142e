// Where the windows of a convolution lie.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

namespace repquant::ops {

/// Two dimensions; of one, the first has size 1.
struct Plane {
  std::array<std::int64_t, 2> size{1, 1}, before{0, 0}, after{0, 0}, kernel{1, 1}, stride{1, 1},
      dilation{1, 1}, grid{1, 1};
};

/// Of x [B, sizes.., C] in 1 or 2 dimensions. Throws c10::Error in the name of an operator for
/// numbers that make no window.
Plane plane_of(const char* name, const at::Tensor& x, at::IntArrayRef before, at::IntArrayRef after,
               at::IntArrayRef kernel, at::IntArrayRef stride, at::IntArrayRef dilation);

}  // namespace repquant::ops
