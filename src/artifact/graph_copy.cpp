#include "artifact/graph_copy.h"

#include <torch/csrc/jit/ir/ir.h>

namespace repquant {

using torch::jit::Block;
using torch::jit::Node;

GraphCopy::GraphCopy(torch::jit::Graph& original) : graph(original.copy()) {
  pair(original.block(), graph->block());
}

void GraphCopy::pair(Block* from, Block* to) {
  for (std::size_t i = 0; i < from->inputs().size(); ++i) {
    values_[from->inputs()[i]] = to->inputs()[i];
  }
  auto copy = to->nodes().begin();
  for (Node* node : from->nodes()) {
    Node* other = *copy;
    nodes_[node] = other;
    for (std::size_t i = 0; i < node->outputs().size(); ++i) {
      values_[node->output(i)] = other->output(i);
    }
    for (std::size_t i = 0; i < node->blocks().size(); ++i) {
      pair(node->blocks()[i], other->blocks()[i]);
    }
    ++copy;
  }
}

}  // namespace repquant
