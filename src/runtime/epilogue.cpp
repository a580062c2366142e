#include "runtime/epilogue.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>

#include <string>

#include "graph/rewrite.h"

namespace repquant {

std::optional<ops::Activation> fusible_activation(const torch::jit::Node* node) {
  if (is_kind(node, "aten::relu")) return ops::Activation::kRelu;
  if (is_kind(node, "aten::silu")) return ops::Activation::kSilu;
  if (is_kind(node, "aten::hardswish")) return ops::Activation::kHardswish;
  if (!is_kind(node, "aten::gelu")) return {};
  const auto form = torch::jit::constant_as<std::string>(node->input(1));
  if (!form || (*form != "none" && *form != "tanh")) return {};
  return *form == "tanh" ? ops::Activation::kGeluTanh : ops::Activation::kGelu;
}

torch::jit::Value* other_summand(torch::jit::Node* node, const torch::jit::Value* value) {
  if (!is_kind(node, "aten::add") || node->inputs().size() != 3) return nullptr;
  if (!node->input(0)->type()->isSubtypeOf(*c10::TensorType::get()) ||
      !node->input(1)->type()->isSubtypeOf(*c10::TensorType::get())) {
    return nullptr;
  }
  if (!is_one(node->input(2))) return nullptr;
  torch::jit::Value* other = node->input(0) == value ? node->input(1) : node->input(0);
  return other == value ? nullptr : other;
}

at::Tensor padded(const at::Tensor& vector, std::int64_t channels, std::int64_t multiple) {
  const std::int64_t rest = (multiple - channels % multiple) % multiple;
  const at::Tensor full = vector.numel() == 1 ? vector.view({1}).expand({channels}) : vector;
  return at::constant_pad_nd(full, {0, rest}).contiguous();
}

}  // namespace repquant
