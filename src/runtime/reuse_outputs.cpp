// Sums, products, joined tensors and lookups by LibTorch -> the same with outputs of ours.
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
  std::size_t inputs;  // that it takes; others only matter to gradients
};

std::optional<SameOperator> with_reused_output(const Node* node) {
  const auto* schema = node->maybeSchema();
  if (schema == nullptr) return {};
  const std::string& overload = schema->overload_name();
  if (overload == "Tensor") {
    if (is_kind(node, "aten::add")) return SameOperator{"repquant::add", 3};
    if (is_kind(node, "aten::mul")) return SameOperator{"repquant::mul", 2};
  }
  if (!overload.empty()) return {};
  if (is_kind(node, "aten::cat")) return SameOperator{"repquant::cat", 2};
  if (is_kind(node, "aten::embedding")) return SameOperator{"repquant::embedding", 2};
  return {};
}

}  // namespace

void reuse_outputs(FusionContext& context, torch::jit::Graph& graph) {
  for (Node* node : all_nodes(graph)) {
    const auto same = with_reused_output(node);
    if (!same) continue;
    const auto end = node->inputs().begin() + static_cast<std::ptrdiff_t>(same->inputs);
    const std::vector<torch::jit::NamedValue> arguments(node->inputs().begin(), end);
    context.improve(node, insert_operator(node, same->name, arguments));
  }
}

}  // namespace repquant
