#include "graph/rewrite.h"

#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/frontend/resolver.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/passes/lower_tuples.h>

#include <functional>
#include <set>

namespace repquant {

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

std::shared_ptr<Graph> compile_function(const std::string& source, const std::string& name) {
  torch::jit::CompilationUnit unit;
  unit.define(std::nullopt, source, torch::jit::nativeResolver(), nullptr);
  auto graph = torch::jit::toGraphFunction(unit.get_function(name)).graph()->copy();
  torch::jit::Inline(*graph);
  torch::jit::LowerAllTuples(graph);
  return graph;
}

std::vector<Node*> replace_node(Node* node, Graph& body, const std::vector<Value*>& inputs) {
  Graph& graph = *node->owningGraph();
  Node* before = node->prev();
  std::vector<Value*> outputs;
  {
    torch::jit::WithInsertPoint guard(node);
    outputs = torch::jit::insertGraph(graph, body, inputs);
  }
  std::vector<Node*> inserted;
  const std::function<void(Node*)> adopt = [&](Node* added) {
    added->copyMetadata(node);
    inserted.push_back(added);
    for (Block* block : added->blocks()) {
      for (Node* inner : block->nodes()) adopt(inner);
    }
  };
  for (Node* added = before->next(); added != node; added = added->next()) adopt(added);
  for (std::size_t i = 0; i < outputs.size() && i < node->outputs().size(); ++i) {
    node->outputs()[i]->replaceAllUsesWith(outputs[i]);
  }
  node->destroy();
  return inserted;
}

Value* insert_tensor(Node* node, const at::Tensor& tensor) {
  torch::jit::WithInsertPoint guard(node);
  return node->owningGraph()->insertConstant(tensor);
}

at::Tensor constant_tensor(const Value* value) {
  const auto constant = torch::jit::toIValue(value);
  return constant && constant->isTensor() ? constant->toTensor() : at::Tensor();
}

std::string kind_name(const Node* node) { return node->kind().toQualString(); }

bool is_kind(const Node* node, const char* kind) { return kind_name(node) == kind; }

bool swaps_last(const Node* node) {
  if (!is_kind(node, "aten::transpose")) return false;
  const auto a = constant_int(node->input(1)), b = constant_int(node->input(2));
  return a && b && *a < 0 && *b < 0 && *a + *b == -3;
}

bool gives_parts(const Node* node) {
  static const std::set<std::string> kinds{"aten::unbind", "aten::chunk", "aten::split",
                                           "aten::split_with_sizes", "aten::tensor_split"};
  return kinds.count(node->kind().toQualString()) > 0;
}

bool is_one(const torch::jit::Value* value) {
  const auto constant = torch::jit::toIValue(value);
  return constant && constant->isScalar() && constant->toScalar().toDouble() == 1.0;
}

std::optional<double> constant_number(const Value* value) {
  const auto constant = torch::jit::toIValue(value);
  if (!constant) return std::nullopt;
  if (constant->isDouble() || constant->isInt()) return constant->toScalar().toDouble();
  if (constant->isTensor() && constant->toTensor().defined() && constant->toTensor().numel() == 1) {
    return constant->toTensor().item().toDouble();
  }
  return std::nullopt;
}

std::optional<std::int64_t> constant_int(const Value* value) {
  const auto constant = torch::jit::toIValue(value);
  return constant && constant->isInt() ? std::optional(constant->toInt()) : std::nullopt;
}

std::optional<std::string> constant_text(const Value* value) {
  const auto constant = torch::jit::toIValue(value);
  return constant && constant->isString() ? std::optional(constant->toStringRef()) : std::nullopt;
}

std::optional<std::vector<std::int64_t>> constant_ints(const torch::jit::Value* list) {
  if (const auto constant = torch::jit::toIValue(list)) {
    return constant->isIntList() ? std::optional(constant->toIntVector()) : std::nullopt;
  }
  if (list->node()->kind() != c10::prim::ListConstruct) return {};
  std::vector<std::int64_t> numbers;
  for (const torch::jit::Value* item : list->node()->inputs()) {
    const auto number = constant_int(item);
    if (!number) return {};
    numbers.push_back(*number);
  }
  return numbers;
}

std::optional<std::vector<std::int64_t>> permute_order(const Node* node) {
  if (!is_kind(node, "aten::permute")) return {};
  auto order = constant_ints(node->input(1));
  if (!order) return {};
  for (auto& axis : *order) axis += axis < 0 ? static_cast<std::int64_t>(order->size()) : 0;
  return order;
}

std::vector<std::int64_t> channels_last_order(std::size_t dimensions) {
  std::vector<std::int64_t> order{0};
  for (std::size_t d = 0; d < dimensions; ++d) order.push_back(static_cast<std::int64_t>(d) + 2);
  order.push_back(1);
  return order;
}

std::vector<std::int64_t> channels_first_order(std::size_t dimensions) {
  std::vector<std::int64_t> order{0, static_cast<std::int64_t>(dimensions) + 1};
  for (std::size_t d = 0; d < dimensions; ++d) order.push_back(static_cast<std::int64_t>(d) + 1);
  return order;
}

std::vector<Node*> all_nodes(Graph& graph) {
  std::vector<Node*> nodes;
  const std::function<void(Block*)> visit = [&](Block* block) {
    for (Node* node : block->nodes()) {
      nodes.push_back(node);
      for (Block* inner : node->blocks()) visit(inner);
    }
  };
  visit(graph.block());
  return nodes;
}

}  // namespace repquant
