#include "tensor/equal.h"

#include <ATen/ATen.h>

#include <bit>

namespace repquant {

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
