// Products of float32 matrices.
#pragma once

#include <ATen/core/Tensor.h>

namespace repquant {

/// x w^T + bias, what at::linear gives but for the order of sums: x [.., K], weight [N, K], bias
/// [N] or undefined. On processors with AVX-512 large products go through oneDNN: LibTorch's MKL
/// uses AVX2 on those that are not Intel's, at half the speed. What needs gradients, or is not of
/// float32 on the processor, is at::linear's.
at::Tensor float_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {});

}  // namespace repquant
