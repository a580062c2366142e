// Error metrics, computed in double.
#pragma once

#include <ATen/core/Tensor.h>

namespace repquant {

/// Mean squared difference; 0 for empty tensors. Shapes must agree.
double mse(const at::Tensor& reference, const at::Tensor& value);

/// sqnr_db (tensor/deviation.h) of the mean square of the reference and that of the difference.
/// +inf for an exact value, -inf for a zero reference with an error.
double sqnr_db(const at::Tensor& reference, const at::Tensor& value);

}  // namespace repquant
