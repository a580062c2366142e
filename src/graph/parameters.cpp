#include "graph/parameters.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <set>

namespace repquant {
namespace {

using torch::jit::Block;

void add_block(const Block* block, std::set<const void*>& seen, std::int64_t& total) {
  for (const auto* node : block->nodes()) {
    for (const Block* inner : node->blocks()) add_block(inner, seen, total);
    if (node->kind() != c10::prim::Constant || node->outputs().size() != 1) continue;
    if (!node->output()->hasUses()) continue;  // left over by a rewrite
    const auto value = torch::jit::toIValue(node->output());
    if (!value || !value->isTensor()) continue;
    const at::Tensor tensor = value->toTensor();
    if (!tensor.is_floating_point() || tensor.numel() == 0) continue;
    if (seen.insert(tensor.const_data_ptr()).second) total += tensor.numel();
  }
}

}  // namespace

std::int64_t count_parameters(const Model& model) {
  std::set<const void*> seen;
  std::int64_t total = 0;
  add_block(model.graph->block(), seen, total);
  return total;
}

}  // namespace repquant
