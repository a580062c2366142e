#include "tensor/samples.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace repquant {

std::int64_t sample_count(const std::vector<at::Tensor>& batch) {
  for (const auto& tensor : batch) {
    if (tensor.dim() == 0 || tensor.size(0) != batch[0].size(0)) return 1;
  }
  return batch.empty() ? 1 : batch[0].size(0);
}

bool same_sample_shapes(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const at::Tensor& x, const at::Tensor& y) {
                      const bool whole = x.dim() == 0 || y.dim() == 0;
                      return whole ? x.dim() == y.dim() : x.sizes().slice(1) == y.sizes().slice(1);
                    });
}

std::vector<at::Tensor> samples_of(const std::vector<at::Tensor>& batch, std::int64_t from,
                                   std::int64_t to) {
  std::vector<at::Tensor> part;
  for (const auto& tensor : batch) {
    part.push_back(tensor.dim() > 0 ? tensor.slice(0, from, to) : tensor);
  }
  return part;
}

std::vector<at::Tensor> repeated_samples(const std::vector<at::Tensor>& batch, std::int64_t count) {
  std::vector<at::Tensor> repeated;
  for (const auto& tensor : batch) {
    if (tensor.dim() == 0) {
      repeated.push_back(tensor);
      continue;
    }
    const std::int64_t size = std::max<std::int64_t>(1, tensor.size(0));
    repeated.push_back(tensor.index_select(0, at::arange(count).remainder(size)));
  }
  return repeated;
}

}  // namespace repquant
