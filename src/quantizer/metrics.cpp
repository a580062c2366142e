#include "quantizer/metrics.h"

#include <ATen/ATen.h>

#include "tensor/check.h"
#include "tensor/deviation.h"

namespace repquant {

double mse(const at::Tensor& reference, const at::Tensor& value) {
  require(reference.sizes() == value.sizes(), "mse", "tensors of one shape");
  if (reference.numel() == 0) return 0;
  return (value.to(at::kDouble) - reference.to(at::kDouble)).square_().mean().item<double>();
}

double sqnr_db(const at::Tensor& reference, const at::Tensor& value) {
  const double noise = mse(reference, value);
  const double signal = reference.to(at::kDouble).square_().mean().item<double>();
  return sqnr_db(signal, noise);
}

}  // namespace repquant
