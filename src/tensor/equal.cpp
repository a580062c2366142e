#include "tensor/equal.h"

#include <ATen/ATen.h>

#include <bit>

namespace repquant {

bool same_values(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() != b.scalar_type() || !a.sizes().equals(b.sizes())) return false;
  if (at::equal(a, b)) return true;
  const at::Tensor nan = at::isnan(a);
  return at::equal(nan, at::isnan(b)) && at::equal(a.masked_fill(nan, 0), b.masked_fill(nan, 0));
}

at::Tensor EqualTensors::first_of(const at::Tensor& tensor) {
  const auto sum = std::bit_cast<std::uint64_t>(at::sum(tensor, at::kDouble).item<double>());
  auto& candidates = kept_[{tensor.sizes().vec(), sum}];
  for (const at::Tensor& candidate : candidates) {
    if (candidate.is_same(tensor)) return candidate;
    if (candidate.dtype() == tensor.dtype() && at::equal(candidate, tensor)) return candidate;
  }
  candidates.push_back(tensor);
  return tensor;
}

}  // namespace repquant
