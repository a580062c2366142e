#include "compute/equal_tensors.h"

#include <ATen/ATen.h>

namespace repquant {

at::Tensor EqualTensors::first_of(const at::Tensor& tensor) {
  auto& candidates = kept_[{tensor.sizes().vec(), at::sum(tensor, at::kDouble).item<double>()}];
  for (const at::Tensor& candidate : candidates) {
    if (candidate.is_same(tensor)) return candidate;
    if (candidate.dtype() == tensor.dtype() && at::equal(candidate, tensor)) return candidate;
  }
  candidates.push_back(tensor);
  return tensor;
}

}  // namespace repquant
