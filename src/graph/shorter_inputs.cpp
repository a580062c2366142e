#include "graph/shorter_inputs.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>

namespace repquant {
namespace {

constexpr std::int64_t kImageStep = 32;

}  // namespace

std::optional<ShorterInputs> shorter_inputs(const std::vector<at::Tensor>& batch) {
  const auto first = std::find_if(batch.begin(), batch.end(),
                                  [](const at::Tensor& tensor) { return tensor.dim() >= 2; });
  if (first == batch.end()) return {};
  ShorterInputs result{.shape = "", .inputs = batch};
  if (first->dim() == 4) {
    const auto half = [](std::int64_t side) { return side / 2 / kImageStep * kImageStep; };
    const std::int64_t height = half(first->size(2)), width = half(first->size(3));
    if (height == 0 || width == 0) return {};
    result.shape = std::to_string(height) + " x " + std::to_string(width);
    const auto sides = first->sizes().slice(2);
    for (auto& tensor : result.inputs) {
      if (tensor.dim() != 4 || !tensor.sizes().slice(2).equals(sides)) return {};
      tensor = tensor.narrow(2, 0, height).narrow(3, 0, width).contiguous();
    }
    return result;
  }
  const std::int64_t length = first->size(1), cut = length - length / 3;
  if (first->dim() > 3 || cut == length) return {};
  result.shape = "length " + std::to_string(cut);
  for (std::size_t i = 0; i < batch.size(); ++i) {
    at::Tensor& tensor = result.inputs[i];
    // Masks may have the length twice; an axis of the first input with as many is its width.
    const std::int64_t axes = &batch[i] == &*first ? 2 : tensor.dim();
    for (std::int64_t axis = 1; axis < axes && tensor.numel() > 0; ++axis) {
      if (tensor.size(axis) == length) tensor = tensor.narrow(axis, 0, cut);
    }
    tensor = tensor.contiguous();
  }
  return result;
}

}  // namespace repquant
