// Calls of methods, functions, forks and context managers, replaced by what they compute.
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/attributes.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <algorithm>
#include <string>
#include <vector>

#include "graph/flatten.h"
#include "graph/rewrite.h"
#include "repquant/error.h"

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

/// `with object:` calls __enter__(object), and at the end __exit__(object, None, None, None).
void call_where_entered(Node* node) {
  const bool enters = node->kind() == c10::prim::Enter;
  const torch::jit::WithInsertPoint at(node);
  Graph& graph = *node->owningGraph();
  const auto type = node->input()->type()->expect<c10::ClassType>();
  const auto body =
      torch::jit::toGraphFunction(type->getMethod(enters ? "__enter__" : "__exit__")).graph();
  std::vector<Value*> arguments{node->input()};
  while (arguments.size() < body->inputs().size()) {
    arguments.push_back(graph.insertConstant(c10::IValue()));
  }
  const std::vector<Value*> results = torch::jit::insertGraph(graph, *body, arguments);
  node->output()->replaceAllUsesWith(results.at(0));
  node->destroy();
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
  constexpr int kDeepest = 64;  // an __enter__ that enters its own object has no end
  bool forked = false;
  bool changed = true;
  for (int depth = 0; changed; ++depth) {
    if (depth == kDeepest) {
      throw Error(ErrorKind::kUnsupported,
                  {.what = "the model's forks or `with` statements lie in one another without end",
                   .expected = "at most " + std::to_string(kDeepest)});
    }
    changed = false;
    for (Node* node : all_nodes(graph)) {
      const bool is_fork = node->kind() == c10::prim::fork;
      if (is_fork) run_where_forked(node);
      const bool is_context =
          !is_fork && (node->kind() == c10::prim::Enter || node->kind() == c10::prim::Exit);
      if (is_context) call_where_entered(node);
      forked = forked || is_fork;
      changed = changed || is_fork || is_context;
    }
    if (changed) torch::jit::Inline(graph);  // methods that these call
  }
  if (!forked) return;
  for (Node* node : all_nodes(graph)) {
    if (node->kind() == c10::aten::wait) leave_out_wait(node);
  }
  give_bare_types(graph);
}

}  // namespace repquant
