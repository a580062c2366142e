// Convolutions as Linears take and give channels last. What stands between them is moved to that
// order too, so that the moves cancel and nothing is copied back and forth.
#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "graph/normalize.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;
using Order = std::vector<std::int64_t>;

/// One output element for each element of the operands, which may be broadcast to one another.
const std::set<std::string> kByElement{
    "aten::relu",        "aten::relu6", "aten::silu",    "aten::gelu",       "aten::hardswish",
    "aten::hardsigmoid", "aten::tanh",  "aten::sigmoid", "aten::leaky_relu", "aten::elu",
    "aten::hardtanh",    "aten::mish",  "aten::clamp",   "aten::softplus",   "aten::add",
    "aten::sub",         "aten::mul",   "aten::div"};

bool puts_channels_first(const Order& order) {
  return order.size() >= 3 && order == channels_first_order(order.size() - 2);
}

bool are_inverse(const Order& first, const Order& second) {
  if (first.size() != second.size()) return false;
  for (std::size_t i = 0; i < second.size(); ++i) {
    if (first[static_cast<std::size_t>(second[i])] != static_cast<std::int64_t>(i)) return false;
  }
  return true;
}

/// permute(permute(x)) that cancel -> x.
bool cancel(Node* node) {
  const auto second = permute_order(node);
  const auto first = second ? permute_order(node->input(0)->node()) : std::nullopt;
  if (!first || !are_inverse(*first, *second)) return false;
  node->output()->replaceAllUsesWith(node->input(0)->node()->input(0));
  node->destroy();
  return true;
}

/// The order in which all tensor operands of `node` put their channels first; nothing if one does
/// not.
std::optional<Order> common_order(const Node* node) {
  std::optional<Order> common;
  for (const Value* operand : node->inputs()) {
    if (!operand->type()->isSubtypeOf(*c10::TensorType::get())) continue;
    if (const at::Tensor t = constant_tensor(operand); t.defined() && t.dim() == 0) continue;
    const auto order = permute_order(operand->node());
    if (!order || !puts_channels_first(*order) || (common && *common != *order)) return {};
    common = order;
  }
  return common;
}

void move_behind(Node* node, const Order& order) {
  for (std::size_t i = 0; i < node->inputs().size(); ++i) {
    if (permute_order(node->input(i)->node()))
      node->replaceInput(i, node->input(i)->node()->input(0));
  }
  Graph& graph = *node->owningGraph();
  torch::jit::WithInsertPoint guard(node->next());
  Value* axes = graph.insertConstant(order);
  Node* permute = graph.create(c10::aten::permute, {node->output(), axes});
  permute->insertAfter(axes->node())->copyMetadata(node);
  permute->output()->setType(node->output()->type());
  node->output()->replaceAllUsesAfterNodeWith(permute, permute->output());
}

}  // namespace

void keep_channels_last(std::shared_ptr<Graph>& graph) {
  for (Node* node : all_nodes(*graph)) {  // in order: a move is met again by what reads it
    if (cancel(node) || kByElement.count(node->kind().toQualString()) == 0) continue;
    if (node->outputs().size() != 1) continue;
    if (const auto order = common_order(node)) move_behind(node, *order);
  }
  torch::jit::EliminateDeadCode(graph);
}

}  // namespace repquant
