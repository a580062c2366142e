// Error metrics, computed in double.
#pragma once

#include <ATen/core/Tensor.h>

namespace repquant {

/// Mean squared difference; 0 for empty tensors. Shapes must agree.
double mse(const at::Tensor& reference, const at::Tensor& value);

/// Signal to quantization noise ratio, 10 log10(sum reference^2 / sum (reference - value)^2), in
/// dB. +inf for an exact value, -inf for a zero reference with an error.
double sqnr_db(const at::Tensor& reference, const at::Tensor& value);

}  // namespace repquant
