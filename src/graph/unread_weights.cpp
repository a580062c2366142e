#include "graph/unread_weights.h"

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <set>
#include <string>

#include "graph/operator_kinds.h"
#include "graph/rewrite.h"
#include "graph/site.h"

namespace repquant {

using torch::jit::Node;
using torch::jit::Value;

FileWeights::FileWeights(const Model& model) {
  if (model.module == nullptr) return;
  for (const c10::IValue& attribute : model.module->attributes()) {
    if (attribute.isTensor() && attribute.toTensor().has_storage()) {
      memory_.insert(attribute.toTensor().storage().data());
    }
  }
}

std::vector<at::Tensor> FileWeights::unread_by(const Node* product,
                                               const ValueSet& of_inputs) const {
  std::vector<at::Tensor> weights;
  for (const Value* operand : product->inputs()) {
    // A constant as it is: learned queries, one for each head.
    if (constant_tensor(operand).defined() || of_inputs.count(operand) > 0) continue;
    collect(operand, weights);
  }
  return weights;
}

void FileWeights::collect(const Value* value, std::vector<at::Tensor>& weights) const {
  static const std::set<std::string> kKeeps{
      "aten::to",           "aten::type_as", "aten::repeat", "aten::tile",         "aten::alias",
      "aten::broadcast_to", "aten::mul",     "aten::div",    "aten::add",          "aten::sub",
      "aten::neg",          "aten::cat",     "aten::stack",  "prim::ListConstruct"};
  static const std::set<std::string> kParts{"aten::slice", "aten::narrow", "aten::select",
                                            "aten::index_select"};
  const Node* node = value->node();
  const std::string kind = kind_name(node);
  if (const at::Tensor t = constant_tensor(value); t.defined()) {
    const bool matrix = t.is_floating_point() && t.dim() >= 2 && t.numel() > 1;
    if (matrix && memory_.count(t.storage().data()) > 0) weights.push_back(t);
  } else if (node->kind() == c10::prim::If) {
    for (const torch::jit::Block* block : node->blocks()) {
      collect(block->outputs()[value->offset()], weights);
    }
  } else if (kKeeps.count(kind) > 0 || (is_shape_only(node) && kParts.count(kind) == 0)) {
    for (const Value* operand : node->inputs()) collect(operand, weights);
  }
}

}  // namespace repquant
