// `while` loops whose turns are known before the model runs. LibTorch unrolls only those that
// count.
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/constant_propagation.h>

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "graph/normalize.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

/// A loop may never end; that shows when the model runs.
constexpr int kMostTurns = 64;

/// A loop that asks after each turn whether there is another, and whose next turn is certain.
bool has_certain_turn(const Node* node) {
  if (node->kind() != c10::prim::Loop) return false;
  const auto begins = torch::jit::constant_as<bool>(node->input(1));
  const torch::jit::Block* body = node->blocks()[0];
  return begins && *begins && body->inputs()[0]->uses().empty() &&
         !torch::jit::toIValue(body->outputs()[0]).has_value();
}

Node* loop_with_certain_turn(Graph& graph) {
  const std::vector<Node*> nodes = all_nodes(graph);
  const auto found = std::find_if(nodes.begin(), nodes.end(), has_certain_turn);
  return found == nodes.end() ? nullptr : *found;
}

/// Puts one turn in front of the loop: values, condition and variables go from one to the other.
void peel_turn(Node* loop) {
  torch::jit::Block* body = loop->blocks()[0];
  std::unordered_map<const Value*, Value*> peeled;
  for (std::size_t i = 1; i < body->inputs().size(); ++i) {
    peeled[body->inputs()[i]] = loop->input(i + 1);  // behind the number of turns and the condition
  }
  const auto value_of = [&peeled](Value* value) {
    const auto found = peeled.find(value);
    return found == peeled.end() ? value : found->second;
  };
  for (Node* node : body->nodes()) {
    Node* copy = loop->owningGraph()->createClone(node, value_of);
    copy->insertBefore(loop);
    for (std::size_t i = 0; i < node->outputs().size(); ++i) {
      peeled[node->output(i)] = copy->output(i);
    }
  }
  for (std::size_t i = 0; i < body->outputs().size(); ++i) {
    loop->replaceInput(i + 1, value_of(body->outputs()[i]));
  }
}

}  // namespace

void unroll_while_loops(std::shared_ptr<Graph>& graph) {
  Node* loop = loop_with_certain_turn(*graph);
  if (loop == nullptr) return;
  const auto original = graph->copy();
  for (int turn = 0; turn < kMostTurns; ++turn) {
    peel_turn(loop);
    torch::jit::ConstantPropagationImmutableTypes(graph);
    loop = loop_with_certain_turn(*graph);
    if (loop == nullptr) return;
  }
  graph = original;
}

}  // namespace repquant
