// Calls of methods, functions and forks, replaced by what they compute.
#include <torch/csrc/jit/ir/attributes.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <algorithm>
#include <vector>

#include "graph/flatten.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

/// Future[T] -> T, in lists, tuples and optional values, too.
c10::TypePtr without_futures(const c10::TypePtr& type) {
  if (const auto future = type->cast<c10::FutureType>()) {
    return without_futures(future->getElementType());
  }
  if (type->containedTypeSize() == 0) return type;
  const c10::ArrayRef<c10::TypePtr> contained = type->containedTypes();
  std::vector<c10::TypePtr> bare;
  std::transform(contained.begin(), contained.end(), std::back_inserter(bare), without_futures);
  if (std::equal(bare.begin(), bare.end(), contained.begin())) return type;
  return type->withContained(std::move(bare));
}

void run_where_forked(Node* fork) {
  const torch::jit::WithInsertPoint at(fork);
  Graph& graph = *fork->owningGraph();
  const std::vector<Value*> results =
      torch::jit::insertGraph(graph, *fork->g(c10::attr::Subgraph), fork->inputs());
  fork->output()->replaceAllUsesWith(results.at(0));
  fork->destroy();
}

void leave_out_wait(Node* wait) {
  wait->output()->replaceAllUsesWith(wait->input());
  wait->destroy();
}

void give_bare_types(Graph& graph) {
  const auto bare = [](Value* value) { value->setType(without_futures(value->type())); };
  for (Node* node : all_nodes(graph)) {
    for (Value* output : node->outputs()) bare(output);
    for (torch::jit::Block* block : node->blocks()) {
      for (Value* input : block->inputs()) bare(input);
    }
  }
}

}  // namespace

void inline_calls(Graph& graph) {
  torch::jit::Inline(graph);
  const auto is_fork = [](const Node* node) { return node->kind() == c10::prim::fork; };
  bool forked = false;
  for (;;) {
    const std::vector<Node*> nodes = all_nodes(graph);
    if (std::none_of(nodes.begin(), nodes.end(), is_fork)) break;
    forked = true;
    for (Node* node : nodes) {
      if (is_fork(node)) run_where_forked(node);
    }
    torch::jit::Inline(graph);  // methods that the forked graphs call
  }
  if (!forked) return;
  for (Node* node : all_nodes(graph)) {
    if (node->kind() == c10::aten::wait) leave_out_wait(node);
  }
  give_bare_types(graph);
}

}  // namespace repquant
