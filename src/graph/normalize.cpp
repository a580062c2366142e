#include "graph/normalize.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/common_subexpression_elimination.h>
#include <torch/csrc/jit/passes/constant_propagation.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/loop_unrolling.h>
#include <torch/csrc/jit/passes/lower_tuples.h>
#include <torch/csrc/jit/passes/peephole.h>
#include <torch/csrc/jit/passes/remove_exceptions.h>
#include <torch/csrc/jit/passes/remove_mutation.h>

#include "graph/rewrite.h"

namespace repquant {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

Value* named_input(const Node* node, const std::string& name) {
  const auto* schema = node->maybeSchema();
  if (schema == nullptr) return nullptr;
  const auto index = schema->argumentIndexWithName(name);
  return index ? const_cast<Node*>(node)->input(static_cast<std::size_t>(*index)) : nullptr;
}

namespace {

/// Dropout does nothing in eval mode; its `train` input is a constant once the model is frozen.
void remove_dropout(Graph& graph) {
  for (Node* node : all_nodes(graph)) {
    const std::string kind = node->kind().toQualString();
    if (kind != "aten::dropout" && kind != "aten::dropout_" && kind != "aten::feature_dropout") {
      continue;
    }
    const auto train = torch::jit::constant_as<bool>(node->input(2));
    if (train && !*train) {
      node->output()->replaceAllUsesWith(node->input(0));
      node->destroy();
    }
  }
}

/// Nodes that return their input unchanged for inference on one device.
void remove_identities(Graph& graph) {
  for (Node* node : all_nodes(graph)) {
    const std::string kind = node->kind().toQualString();
    if (kind == "aten::detach" || kind == "aten::alias") {
      node->output()->replaceAllUsesWith(node->input(0));
      node->destroy();
    }
  }
}

}  // namespace

void clean_graph(std::shared_ptr<Graph>& graph) {
  remove_dropout(*graph);
  remove_identities(*graph);
  // Folding a condition uncovers constants behind it, so a few rounds are needed; three suffice
  // for every export met so far and more would do no harm.
  for (int round = 0; round < 3; ++round) {
    torch::jit::EliminateExceptions(graph);
    torch::jit::LowerSimpleTuples(graph);
    torch::jit::ConstantPropagation(graph);
    torch::jit::UnrollConstantLoops(graph);
    torch::jit::RemoveListMutation(graph);
    torch::jit::RemoveTensorMutation(graph);
    torch::jit::PeepholeOptimize(graph);
    torch::jit::EliminateCommonSubexpression(graph);
    torch::jit::EliminateDeadCode(graph);
  }
  remove_dropout(*graph);
  torch::jit::EliminateDeadCode(graph);
}

}  // namespace repquant
