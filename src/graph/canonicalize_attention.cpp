// Attention written the other way round: keys in rows, values on the left -> softmax over the last
// dimension, on the left of its product.
#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include <string>

#include "graph/normalize.h"
#include "graph/rank.h"
#include "graph/rewrite.h"
#include "graph/site.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

bool is_softmax(const Node* node) {
  return is_kind(node, "aten::softmax") || is_kind(node, "aten::_softmax") ||
         is_kind(node, "aten::_safe_softmax");
}

/// x with its last two dimensions exchanged; of an exchange that is there already, its operand.
Value* transposed(Value* x, Node* before) {
  if (swaps_last_two(x->node())) return x->node()->input(0);
  Graph& graph = *before->owningGraph();
  torch::jit::WithInsertPoint guard(before);
  Value* last = graph.insertConstant(std::int64_t{-1});
  Value* second = graph.insertConstant(std::int64_t{-2});
  Node* node = graph.create(c10::Symbol::fromQualString("aten::transpose"), {x, second, last});
  node->insertBefore(before)->copyMetadata(before);
  return node->output();
}

/// A number that is the same for all elements.
bool is_number(const Value* value) {
  const auto constant = torch::jit::toIValue(value);
  if (!constant) return false;
  return constant->isScalar() || (constant->isTensor() && constant->toTensor().dim() == 0);
}

/// softmax's input with its last two dimensions exchanged: in the product itself where only a
/// scale lies between.
Value* transposed_scores(Value* scores, Node* before) {
  Node* node = scores->node();
  if (scores->uses().size() == 1) {
    if ((is_kind(node, "aten::mul") || is_kind(node, "aten::div")) && is_number(node->input(1))) {
      Value* inner = transposed_scores(node->input(0), node);
      node->replaceInput(0, inner);
      return scores;
    }
    if (is_kind(node, "aten::matmul")) {
      Value* left = transposed(node->input(1), node);
      Value* right = transposed(node->input(0), node);
      node->replaceInput(0, left);
      node->replaceInput(1, right);
      return scores;
    }
  }
  return transposed(scores, before);
}

/// softmax(x, -2) -> softmax(x^T, -1)^T
void turn_softmax(Node* softmax) {
  Value* dimension = named_input(softmax, "dim");
  if (dimension_from_end(dimension, softmax->input(0)) != std::optional<std::int64_t>(-2)) return;
  Value* scores = transposed_scores(softmax->input(0), softmax);
  Node* after = softmax->next();
  Value* result = softmax->output();
  const auto uses = result->uses();
  Graph& graph = *softmax->owningGraph();
  Value* last = nullptr;
  {
    torch::jit::WithInsertPoint guard(softmax);
    last = graph.insertConstant(std::int64_t{-1});
  }
  softmax->replaceInput(0, scores);
  softmax->replaceInput(1, last);
  Value* turned = transposed(result, after);
  for (const auto& use : uses) {
    if (swaps_last_two(use.user) && use.offset == 0) {
      use.user->output()->replaceAllUsesWith(result);
    } else {
      use.user->replaceInput(use.offset, turned);
    }
  }
}

/// True if the elements of `value` are those of a softmax, moved around.
bool comes_from_softmax(const Value* value) {
  for (int depth = 0; depth < 16; ++depth) {
    const Node* node = value->node();
    if (is_softmax(node)) return true;
    if (!is_shape_only(node) && !is_kind(node, "aten::to") && !is_kind(node, "aten::type_as")) {
      return false;
    }
    value = node->input(0);
  }
  return false;
}

/// v @ a^T -> (a @ v^T)^T
void turn_product(Node* product) {
  Value* left = product->input(0);
  Value* right = product->input(1);
  if (!swaps_last_two(right->node()) || !comes_from_softmax(right) || comes_from_softmax(left)) {
    return;
  }
  Graph& graph = *product->owningGraph();
  Node* turned = graph.create(c10::Symbol::fromQualString("aten::matmul"),
                              {transposed(right, product), transposed(left, product)});
  turned->insertBefore(product)->copyMetadata(product);
  product->output()->replaceAllUsesWith(transposed(turned->output(), product));
  product->destroy();
}

}  // namespace

void canonicalize_attention(std::shared_ptr<Graph>& graph) {
  for (Node* node : all_nodes(*graph)) {
    if (is_softmax(node)) turn_softmax(node);
  }
  for (Node* node : all_nodes(*graph)) {
    if (is_kind(node, "aten::matmul")) turn_product(node);
  }
  torch::jit::EliminateDeadCode(graph);
}

}  // namespace repquant
