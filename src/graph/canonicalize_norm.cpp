// RMSNorm in elementary operators -> aten::rms_norm (Zhang and Sennrich, 2019).
#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <optional>
#include <string>

#include "graph/normalize.h"
#include "graph/rewrite.h"
#include "graph/value_facts.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

std::optional<double> number_of(const Value* value) {
  const auto constant = torch::jit::toIValue(value);
  if (!constant) return {};
  if (constant->isScalar()) return constant->toScalar().toDouble();
  if (constant->isTensor() && constant->toTensor().numel() == 1) {
    return constant->toTensor().item().toDouble();
  }
  return {};
}

/// The float32 models that are quantized convert to float32 and back around a norm: both are
/// no-ops, but for what is of another type.
Value* through_conversions(Value* value) {
  while (is_kind(value->node(), "aten::to") || is_kind(value->node(), "aten::type_as")) {
    value = value->node()->input(0);
  }
  return value;
}

/// x if `value` is x^2.
Value* squared(Value* value) {
  Node* node = value->node();
  if (is_kind(node, "aten::square")) return node->input(0);
  if (is_kind(node, "aten::pow") && number_of(node->input(1)) == 2.0) return node->input(0);
  if (is_kind(node, "aten::mul") && node->input(0) == node->input(1)) return node->input(0);
  return nullptr;
}

struct MeanSquare {
  Value* x = nullptr;          // before conversions
  Value* converted = nullptr;  // the float32 that is squared
  double epsilon = 0.0;
};

/// x and epsilon if `value` is mean(x^2, -1, keepdim) + epsilon.
std::optional<MeanSquare> mean_square(Value* value) {
  Node* add = value->node();
  if (!is_kind(add, "aten::add") || add->inputs().size() < 2) return {};
  const std::size_t mean_index = is_kind(add->input(0)->node(), "aten::mean") ? 0 : 1;
  const auto epsilon = number_of(add->input(1 - mean_index));
  Node* mean = add->input(mean_index)->node();
  if (!epsilon || !is_kind(mean, "aten::mean") || named_input(mean, "dim") == nullptr) return {};
  const auto dim = torch::jit::toIValue(named_input(mean, "dim"));
  const auto keep = torch::jit::constant_as<bool>(named_input(mean, "keepdim"));
  if (!dim || !dim->isIntList() || dim->toIntVector() != std::vector<std::int64_t>{-1}) return {};
  if (!keep || !*keep) return {};
  Value* x = squared(mean->input(0));
  if (x == nullptr) return {};
  return MeanSquare{through_conversions(x), x, *epsilon};
}

/// The node x * rsqrt(..) or x / sqrt(..) that ends the normalisation, given its root.
Node* normalisation_of(Node* root, const Value* x) {
  Value* value = root->outputs()[0];
  if (value->uses().size() != 1) return nullptr;
  Node* user = value->uses()[0].user;
  const bool inverse = is_kind(root, "aten::rsqrt");
  if (!is_kind(user, inverse ? "aten::mul" : "aten::div")) return nullptr;
  const std::size_t other = value->uses()[0].offset == 0 ? 1 : 0;
  if (!inverse && other != 0) return nullptr;
  return through_conversions(user->input(other)) == x ? user : nullptr;
}

/// The multiplication by a constant vector that is the only use of `value`, through conversions.
Node* gamma_after(Value* value, at::Tensor& gamma) {
  while (value->uses().size() == 1) {
    Node* user = value->uses()[0].user;
    if (is_kind(user, "aten::mul")) {
      gamma = constant_tensor(user->input(value->uses()[0].offset == 0 ? 1 : 0));
      const bool vector = gamma.defined() && gamma.dim() == 1 && gamma.numel() > 1;
      return vector && gamma.is_floating_point() ? user : nullptr;
    }
    if (!is_kind(user, "aten::to") && !is_kind(user, "aten::type_as")) return nullptr;
    if (value->uses()[0].offset != 0) return nullptr;
    value = user->output();
  }
  return nullptr;
}

}  // namespace

void canonicalize_norms(std::shared_ptr<Graph>& graph) {
  Float32Values float32;
  for (Node* root : all_nodes(*graph)) {
    if (!is_kind(root, "aten::rsqrt") && !is_kind(root, "aten::sqrt")) continue;
    const auto found = mean_square(root->input());
    if (!found) continue;
    Node* normalisation = normalisation_of(root, found->x);
    if (normalisation == nullptr) continue;
    at::Tensor gamma;
    Node* last = gamma_after(normalisation->output(), gamma);
    if (last == nullptr) continue;  // without gamma the width is not known

    torch::jit::WithInsertPoint guard(last);
    Value* shape = graph->insertConstant(c10::List<std::int64_t>({gamma.size(0)}));
    Value* weight = graph->insertConstant(gamma.to(at::kFloat));
    Value* epsilon = graph->insertConstant(found->epsilon);
    Value* x = float32.contains(found->x) ? found->x : found->converted;
    Node* norm =
        graph->create(c10::Symbol::fromQualString("aten::rms_norm"), {x, shape, weight, epsilon});
    norm->insertBefore(last)->copyMetadata(last);
    last->output()->replaceAllUsesWith(norm->output());
  }
}

}  // namespace repquant
