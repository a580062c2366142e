#include "graph/dependence.h"

#include <torch/csrc/jit/ir/ir.h>

#include <utility>

#include "graph/operator_kinds.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// True if the node or one inside it reads one of the values.
bool reads(const Node* node, const ValueSet& values) {
  for (const Value* input : node->inputs()) {
    if (values.count(input) > 0) return true;
  }
  for (const torch::jit::Block* block : node->blocks()) {
    for (const Node* inner : block->nodes()) {
      if (reads(inner, values)) return true;
    }
    if (reads(block->return_node(), values)) return true;
  }
  return false;
}

}  // namespace

ValueSet dependent_values(const Schedule& schedule, ValueSet values) {
  for (const Node* node : schedule.nodes()) {
    if (reads_shape_only(node) || !reads(node, values)) continue;
    values.insert(node->outputs().begin(), node->outputs().end());
  }
  return values;
}

ValueSet quantized_values(const Schedule& schedule, const std::vector<Site>& sites) {
  ValueSet values;
  for (const Site& site : sites) {
    values.insert(site.node->outputs().begin(), site.node->outputs().end());
  }
  return dependent_values(schedule, std::move(values));
}

}  // namespace repquant
