// Sums, products, joined tensors, lookups and norms by LibTorch -> the same with outputs of ours.
#include <torch/csrc/jit/ir/ir.h>

#include <optional>
#include <string>
#include <vector>

#include "graph/rewrite.h"
#include "runtime/fuse.h"

namespace repquant {
namespace {

using torch::jit::Node;

struct SameOperator {
  const char* name;
  std::vector<std::size_t> inputs;  // that it takes; others only matter to gradients
};

/// A norm of the last dimension alone, with weight and bias.
bool is_row_norm(const Node* node) {
  const auto is_tensor = [node](std::size_t i) {
    return node->input(i)->type()->kind() == c10::TypeKind::TensorType;
  };
  const auto* list = node->input(1)->node();
  const auto sizes = constant_ints(node->input(1));
  const bool one = list->kind() == c10::prim::ListConstruct ? list->inputs().size() == 1
                                                            : sizes && sizes->size() == 1;
  return one && is_tensor(2) && is_tensor(3);
}

std::optional<SameOperator> with_reused_output(const Node* node) {
  const auto* schema = node->maybeSchema();
  if (schema == nullptr) return {};
  const std::string& overload = schema->overload_name();
  if (overload == "Tensor") {
    if (is_kind(node, "aten::add")) return SameOperator{"repquant::add", {0, 1, 2}};
    if (is_kind(node, "aten::mul")) return SameOperator{"repquant::mul", {0, 1}};
  }
  if (!overload.empty()) return {};
  if (is_kind(node, "aten::cat")) return SameOperator{"repquant::cat", {0, 1}};
  if (is_kind(node, "aten::embedding")) return SameOperator{"repquant::embedding", {0, 1}};
  if (is_kind(node, "aten::layer_norm") && is_row_norm(node)) {
    return SameOperator{"repquant::layer_norm", {0, 2, 3, 4}};
  }
  return {};
}

}  // namespace

void reuse_outputs(torch::jit::Graph& graph) {
  for (Node* node : all_nodes(graph)) {
    const auto same = with_reused_output(node);
    if (!same) continue;
    std::vector<torch::jit::NamedValue> arguments;
    for (const std::size_t i : same->inputs) arguments.emplace_back(node->input(i));
    node->output()->replaceAllUsesWith(insert_operator(node, same->name, arguments));
    node->destroy();
  }
}

}  // namespace repquant
