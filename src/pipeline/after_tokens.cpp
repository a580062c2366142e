#include "pipeline/after_tokens.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace repquant {
namespace {

/// True if `longer` has the sizes of `empty` but where that has none.
bool continues(const at::Tensor& longer, const at::Tensor& empty) {
  return std::equal(longer.sizes().begin(), longer.sizes().end(), empty.sizes().begin(),
                    empty.sizes().end(),
                    [](std::int64_t a, std::int64_t b) { return a == b || b == 0; });
}

}  // namespace

std::optional<std::vector<at::Tensor>> after_tokens(const std::vector<at::Tensor>& batch,
                                                    std::int64_t begin, const RunInputs& run) {
  if (batch.size() < 2 || batch[0].dim() != 2 || begin < 1 || begin >= batch[0].size(1)) return {};
  const bool keeps = std::all_of(batch.begin() + 1, batch.end(),
                                 [](const at::Tensor& tensor) { return tensor.numel() == 0; });
  if (!keeps || batch[0].numel() == 0) return {};
  std::vector<at::Tensor> inputs = batch;
  inputs[0] = batch[0].slice(1, 0, begin).contiguous();
  const std::vector<at::Tensor> outputs = run(inputs);
  const std::size_t kept = batch.size() - 1;
  if (outputs.size() <= kept) return {};
  inputs[0] = batch[0].slice(1, begin).contiguous();
  for (std::size_t i = 0; i < kept; ++i) {
    const at::Tensor& past = outputs[outputs.size() - kept + i];
    if (!continues(past, batch[i + 1])) return {};
    inputs[i + 1] = past.contiguous();
  }
  return inputs;
}

}  // namespace repquant
