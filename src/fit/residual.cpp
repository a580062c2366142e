#include "fit/residual.h"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <torch/csrc/jit/ir/ir.h>

#include "graph/rewrite.h"

namespace repquant {

using torch::jit::Node;
using torch::jit::Value;

const Value* residual_of(const Node* linear, const Schedule& schedule, const ValueSet& quantized) {
  const auto& uses = linear->output()->uses();
  if (uses.size() != 1) return nullptr;
  const Node* add = uses[0].user;
  if (!is_kind(add, "aten::add") || uses[0].offset > 1) return nullptr;
  if (add->owningBlock() != linear->owningBlock() || !is_one(add->input(2))) return nullptr;
  const Value* residual = add->input(1 - uses[0].offset);
  if (quantized.count(residual) == 0) return nullptr;
  if (schedule.index_of(residual->node()) > schedule.index_of(linear)) return nullptr;
  return residual;
}

at::Tensor residual_error(const at::Tensor& floating, const at::Tensor& quantized,
                          at::IntArrayRef shape) {
  const bool fits =
      floating.sizes() == quantized.sizes() && at::is_expandable_to(floating.sizes(), shape);
  return fits ? (floating - quantized).expand(shape) : at::Tensor();
}

}  // namespace repquant
