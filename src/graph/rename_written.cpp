#include "graph/rename_written.h"

#include <torch/csrc/jit/ir/ir.h>

#include <set>
#include <utility>
#include <vector>

#include "graph/aliases.h"
#include "graph/in_place.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

/// Later nodes read `value` by another name.
void rename_behind(Node* node, Value* value) {
  if (!value->type()->isSubtypeOf(*c10::TensorType::get())) return;
  Node* renamed = nullptr;
  const std::vector<torch::jit::Use> uses = value->uses();
  for (const auto& use : uses) {
    if (!use.user->isAfter(node)) continue;
    if (renamed == nullptr) {
      renamed = node->owningGraph()->create(c10::aten::detach, {value});
      renamed->insertAfter(node)->copyMetadata(value->node());
    }
    use.user->replaceInput(use.offset, renamed->output());
  }
}

/// The branch or loop of the graph's own block that `node` lies in.
Node* outermost(Node* node) {
  while (node->owningBlock() != node->owningGraph()->block()) {
    node = node->owningBlock()->owningNode();
  }
  return node;
}

}  // namespace

void rename_written(Graph& graph) {
  std::set<std::pair<Node*, Value*>> done;
  for (Node* node : all_nodes(graph)) {
    if (node->owningBlock() == graph.block() || !writes_first(node)) continue;
    Value* root = root_of(node->input(0));
    if (root->node()->owningBlock() != graph.block()) continue;
    Node* around = outermost(node);
    if (!done.insert({around, root}).second) continue;
    const Sharing sharing(root, around, {});
    for (Value* value : sharing.values()) rename_behind(around, value);
  }
}

}  // namespace repquant
