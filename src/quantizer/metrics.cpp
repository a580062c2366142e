#include "quantizer/metrics.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "tensor/check.h"

namespace repquant {

double mse(const at::Tensor& reference, const at::Tensor& value) {
  require(reference.sizes() == value.sizes(), "mse", "tensors of one shape");
  if (reference.numel() == 0) return 0;
  return (value.to(at::kDouble) - reference.to(at::kDouble)).square_().mean().item<double>();
}

double sqnr_db(const at::Tensor& reference, const at::Tensor& value) {
  const double noise = mse(reference, value);
  if (noise == 0) return std::numeric_limits<double>::infinity();
  const double signal = reference.to(at::kDouble).square_().mean().item<double>();
  return 10 * std::log10(signal / noise);
}

}  // namespace repquant
