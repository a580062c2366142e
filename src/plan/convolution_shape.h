// The shape of a convolution, and the convolution itself.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace repquant {

/// Lists have an entry for each of the 1 to 3 dimensions.
struct ConvolutionShape {
  std::vector<std::int64_t> kernel, stride, padding, dilation;
  std::int64_t groups = 1;

  bool operator==(const ConvolutionShape&) const = default;
};

/// x [B, C, sizes..], weight [N, C / groups, kernel..] or the same as [N, columns], bias [N] or
/// undefined -> [B, N, sizes..], float32.
at::Tensor convolve(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                    const ConvolutionShape& shape);

}  // namespace repquant
