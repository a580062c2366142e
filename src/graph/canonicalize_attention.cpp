// Attention written otherwise: keys in rows, values on the left, something between softmax and
// product -> softmax over the last dimension, on the left of its product and right before it.
#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "graph/normalize.h"
#include "graph/operator_kinds.h"
#include "graph/rank.h"
#include "graph/rewrite.h"
#include "graph/site.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

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

/// softmax(x, -2) -> softmax(x^T, -1)^T. The last dimension is named as such while ranks are known,
/// or a softmax of three dimensions would be none of rows where the sites are looked for.
void turn_softmax(Node* softmax) {
  const auto dimension = dimension_from_end(named_input(softmax, "dim"), softmax->input(0));
  if (dimension == std::optional<std::int64_t>(-1)) {
    torch::jit::WithInsertPoint guard(softmax);
    softmax->replaceInput(1, softmax->owningGraph()->insertConstant(std::int64_t{-1}));
  }
  if (dimension != std::optional<std::int64_t>(-2)) return;
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
  if (rank_of(left).value_or(2) < 2) return;  // a vector
  Graph& graph = *product->owningGraph();
  Node* turned = graph.create(c10::Symbol::fromQualString("aten::matmul"),
                              {transposed(right, product), transposed(left, product)});
  turned->insertBefore(product)->copyMetadata(product);
  product->output()->replaceAllUsesWith(transposed(turned->output(), product));
  product->destroy();
}

/// The only reader of `value`, where that is a product with `value` on its left; else null.
Node* only_product(const Value* value) {
  if (value->uses().size() != 1) return nullptr;
  const torch::jit::Use& use = value->uses()[0];
  return is_kind(use.user, "aten::matmul") && use.offset == 0 ? use.user : nullptr;
}

/// softmax / (sum of softmax + number) -> softmax / (1 + number): rows sum to 1 unless they are
/// NaN, which they stay. Not for _safe_softmax, which has rows of zeros.
void replace_sum(Node* divide) {
  const Node* softmax = divide->input(0)->node();
  if (divide->inputs().size() != 2 || !is_softmax(softmax)) return;
  if (is_kind(softmax, "aten::_safe_softmax")) return;
  const Node* divisor = divide->input(1)->node();
  double number = 0.0;
  if (is_kind(divisor, "aten::add")) {
    if (!is_number(divisor->input(1)) || !is_one(named_input(divisor, "alpha"))) return;
    const auto added = *torch::jit::toIValue(divisor->input(1));
    number = added.isTensor() ? added.toTensor().item<double>() : added.toScalar().toDouble();
    divisor = divisor->input(0)->node();
  }
  if (!is_kind(divisor, "aten::sum") || divisor->input(0) != divide->input(0)) return;
  const Value* over = named_input(divisor, "dim");
  const auto list = over == nullptr ? std::nullopt : torch::jit::toIValue(over);
  const auto keeps = torch::jit::constant_as<bool>(named_input(divisor, "keepdim"));
  if (!list || !list->isIntList() || list->toIntVector() != std::vector<std::int64_t>{-1}) return;
  if (!keeps.value_or(false)) return;
  const Value* dimension = named_input(softmax, "dim");
  if (dimension_from_end(dimension, softmax->input(0)) != std::optional<std::int64_t>(-1)) return;
  divide->replaceInput(1, insert_tensor(divide, at::scalar_tensor(1.0 + number)));
}

/// True for what acts on the rows of a softmax as on the rows of its product with finite values: a
/// factor, and zeros in place of NaN.
bool acts_on_rows(const Node* node) {
  if (is_kind(node, "aten::mul") || is_kind(node, "aten::div")) {
    return node->inputs().size() == 2 && is_number(node->input(1));
  }
  if (!is_kind(node, "aten::nan_to_num")) return false;
  const Value* instead = named_input(node, "nan");
  return instead->mustBeNone() || torch::jit::constant_as<double>(instead) == 0.0;
}

/// f(softmax) @ v -> f(softmax @ v), unless f replaces NaN and that is not of whole rows.
void move_behind_product(Node* node) {
  if (!acts_on_rows(node)) return;
  const Node* first = node;
  while (acts_on_rows(first)) first = first->input(0)->node();
  if (!is_softmax(first)) return;
  const auto over = dimension_from_end(named_input(first, "dim"), first->input(0));
  if (is_kind(node, "aten::nan_to_num") && over != std::optional<std::int64_t>(-1)) return;
  Node* product = only_product(node->output());
  if (product == nullptr) return;
  product->replaceInput(0, node->input(0));
  product->output()->replaceAllUsesWith(node->output());
  node->replaceInput(0, product->output());
  node->moveAfter(product);
}

/// True for x[:] of some dimension.
bool takes_all(const Node* slice) {
  if (!is_kind(slice, "aten::slice") || slice->inputs().size() != 5) return false;
  const bool from_first = slice->input(2)->mustBeNone() || constant_int(slice->input(2)) == 0;
  const bool to_last = slice->input(3)->mustBeNone() ||
                       constant_int(slice->input(3)) == std::numeric_limits<std::int64_t>::max();
  return from_first && to_last && is_one(slice->input(4));
}

/// softmax[.., :-n] @ v, where the last n columns only take weight away (attention sinks) ->
/// softmax @ (v and n rows of zeros)
void pad_values(Node* slice) {
  Value* weights = slice->input(0);
  while (takes_all(weights->node())) weights = weights->node()->input(0);
  if (!is_softmax(weights->node()) || weights->uses().size() != 1) return;
  Node* product = only_product(slice->output());
  const auto last = dimension_from_end(slice->input(1), slice->input(0));
  if (product == nullptr || last != std::optional<std::int64_t>(-1)) return;
  const bool from_first = slice->input(2)->mustBeNone() || constant_int(slice->input(2)) == 0;
  const auto end = constant_int(slice->input(3));
  if (!from_first || !end || *end >= 0 || !is_one(slice->input(4))) return;
  const auto body = compile_function(R"(
def attend(weights: Tensor, value: Tensor, rows: int) -> Tensor:
    return torch.matmul(weights, torch.constant_pad_nd(value, [0, 0, 0, rows], 0))
)",
                                     "attend");
  Value* rows = nullptr;
  {
    torch::jit::WithInsertPoint guard(product);
    rows = product->owningGraph()->insertConstant(-*end);
  }
  replace_node(product, *body, {weights, product->input(1), rows});
}

}  // namespace

void canonicalize_attention(std::shared_ptr<Graph>& graph) {
  for (Node* node : all_nodes(*graph)) {
    if (is_softmax(node)) turn_softmax(node);
  }
  for (Node* node : all_nodes(*graph)) {
    if (is_kind(node, "aten::matmul")) turn_product(node);
  }
  std::vector<Node*> nodes = all_nodes(*graph);
  for (Node* node : nodes) {
    if (is_kind(node, "aten::div")) replace_sum(node);
  }
  torch::jit::EliminateDeadCode(graph);  // sums that nothing reads any more
  nodes = all_nodes(*graph);
  std::reverse(nodes.begin(), nodes.end());  // what is next to the product moves first
  for (Node* node : nodes) {
    if (is_kind(node, "aten::slice")) {
      pad_values(node);
    } else {
      move_behind_product(node);
    }
  }
  torch::jit::EliminateDeadCode(graph);
}

}  // namespace repquant
