#include "graph/graph_copy.h"

#include <torch/csrc/jit/ir/ir.h>

namespace repquant {

using torch::jit::Block;
using torch::jit::Node;

GraphCopy::GraphCopy(torch::jit::Graph& original) : graph(original.copy()) {
  pair(original.block(), graph->block());
  for (const auto& [value, copy] : values_) originals_[copy] = value;
}

const torch::jit::Value* GraphCopy::original(const torch::jit::Value* copy) const {
  const auto found = originals_.find(copy);
  return found != originals_.end() ? found->second : nullptr;
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
