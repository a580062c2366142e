// Coordinate descent on the codes of a weight.
#pragma once

#include <ATen/core/Tensor.h>

#include "gptq/row_scale.h"

namespace repquant {

/// One pass of cyclic coordinate descent on tr(dW H dW^T), dW = W - s q: each column of codes in
/// turn takes the allowed code that is best given all others (QuantEase, arXiv 2309.01885;
/// COMQ, 2403.07134), so the error never grows. Columns with H_kk = 0 keep their codes.
///   weight float32 [R, K]; scale float64 [R, K], not 0, already spread over the columns; hessian
///   float64 [K, K], symmetric, positive semidefinite; codes float64 [R, K], changed in place.
void descend(const at::Tensor& weight, const at::Tensor& scale, const at::Tensor& hessian,
             const WeightCodes& allowed, at::Tensor& codes);

}  // namespace repquant
