#include "plan/convolution_shape.h"

#include <ATen/ATen.h>

namespace repquant {

at::Tensor convolve(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                    const ConvolutionShape& shape) {
  std::vector<std::int64_t> sizes{weight.size(0), x.size(1) / shape.groups};
  sizes.insert(sizes.end(), shape.kernel.begin(), shape.kernel.end());
  const std::vector<std::int64_t> none(shape.kernel.size(), 0);
  return at::convolution(x, weight.reshape(sizes), bias, shape.stride, shape.padding,
                         shape.dilation, /*transposed=*/false, none, shape.groups);
}

}  // namespace repquant
