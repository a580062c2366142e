// Other spellings of Linear and matrix products, rewritten to the canonical ones.
#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <optional>
#include <string>

#include "graph/normalize.h"
#include "graph/rank.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

// With beta = 0 the added matrix is ignored, even where it holds NaN (it is often uninitialised).
constexpr const char* kBatchedAdd = R"(
def baddbmm(added: Tensor, left: Tensor, right: Tensor, beta: number,
            alpha: number) -> Tensor:
    product = torch.matmul(left, right) * alpha
    if beta != 0:
        product = product + added * beta
    return product
)";

/// Replaces `node` by aten::linear(x, transposed weight, bias or None).
void replace_by_linear(Node* node, Value* x, const at::Tensor& weight_kn, const at::Tensor& bias) {
  Graph& graph = *node->owningGraph();
  torch::jit::WithInsertPoint guard(node);
  Value* weight = graph.insertConstant(weight_kn.t().contiguous());
  Value* bias_value =
      bias.defined() ? graph.insertConstant(bias.clone()) : graph.insertConstant(c10::IValue());
  Node* linear = graph.create(c10::Symbol::fromQualString("aten::linear"), {x, weight, bias_value});
  linear->insertBefore(node)->copyMetadata(node);
  node->output()->replaceAllUsesWith(linear->output());
  node->destroy();
}

bool is_float_matrix(const at::Tensor& t) {
  return t.defined() && t.dim() == 2 && t.is_floating_point();
}

/// aten::addmm(bias, x, W) with constants: beta = alpha = 1.
bool is_linear(const Node* addmm) {
  const auto bias = constant_tensor(addmm->input(0));
  const auto weight = constant_tensor(addmm->input(2));
  return is_float_matrix(weight) && bias.defined() && bias.dim() == 1 &&
         bias.size(0) == weight.size(1) && is_one(named_input(addmm, "beta")) &&
         is_one(named_input(addmm, "alpha"));
}

/// aten::matmul(x, W), with a following aten::add of a constant vector as bias.
bool rewrite_matmul(Node* node) {
  const auto weight = constant_tensor(node->input(1));
  if (!is_float_matrix(weight) || constant_tensor(node->input(0)).defined()) return false;
  if (node->output()->uses().size() == 1) {
    Node* add = node->output()->uses()[0].user;
    if (is_kind(add, "aten::add") && add->inputs().size() == 3 && is_one(add->input(2))) {
      const std::size_t other = add->input(0) == node->output() ? 1 : 0;
      const auto bias = constant_tensor(add->input(other));
      if (bias.defined() && bias.dim() == 1 && bias.size(0) == weight.size(1) &&
          bias.scalar_type() == weight.scalar_type()) {
        replace_by_linear(add, node->input(0), weight, bias);
        node->destroy();
        return true;
      }
    }
  }
  replace_by_linear(node, node->input(0), weight, {});
  return true;
}

/// x @ W with constant W [1, K, N] -> x @ W [K, N], and W @ x alike, where x has as many
/// dimensions: matrices that are the same for all of a dimension of x need not have that dimension.
void drop_leading_ones(Node* product) {
  for (const std::size_t i : {0U, 1U}) {
    at::Tensor weight = constant_tensor(product->input(i));
    if (!weight.defined() || weight.dim() < 3 || weight.size(0) != 1) continue;
    const Value* x = product->input(1 - i);
    const auto rank = rank_of(x);
    if (!rank || constant_tensor(x).defined()) continue;
    while (weight.dim() > 2 && weight.size(0) == 1 && *rank >= weight.dim()) {
      weight = weight.squeeze(0);
    }
    product->replaceInput(i, insert_tensor(product, weight));
  }
}

/// x @ W with constant W [E, K, N] -> E Linears on the parts of x, [.., E, T, K] or [.., 1, T, K].
/// W @ x with constant W [E, M, K] is (x^T @ W^T)^T.
bool rewrite_batch_of_constants(Node* node, bool on_the_left) {
  Value* x = node->input(on_the_left ? 1 : 0);
  const at::Tensor weight = constant_tensor(node->input(on_the_left ? 0 : 1));
  if (!weight.defined() || weight.scalar_type() != at::kFloat) return false;
  const auto rank = is_kind(node, "aten::bmm") ? std::optional<std::int64_t>(3) : rank_of(x);
  if (!rank || *rank < 2) return false;
  if (weight.dim() != 3) return false;
  const std::int64_t count = weight.size(0);
  if (count > kMostMatrices || constant_tensor(x).defined()) return false;
  const std::string turn = on_the_left ? ".transpose(-2, -1)" : "";
  std::string text = "def batch(x: Tensor", stack, sizes;
  for (std::int64_t i = 3; i < *rank; ++i) sizes += "-1, ";
  for (std::int64_t i = 0; i < count; ++i) {
    const std::string name = std::to_string(i);
    text += ", weight_" + name + ": Tensor";
    if (i > 0) stack += ", ";
    stack.append("torch.linear(x.select(-3, ").append(name).append("), weight_");
    stack.append(name).append(", None)");
  }
  text += ") -> Tensor:\n    x = x" + turn + ".expand([" + sizes + std::to_string(count) +
          ", -1, -1])\n    return torch.stack([" + stack + "], -3)" + turn + "\n";
  std::vector<Value*> operands{x};
  for (std::int64_t i = 0; i < count; ++i) {
    operands.push_back(insert_tensor(node, (on_the_left ? weight[i] : weight[i].t()).contiguous()));
  }
  replace_node(node, *compile_function(text, "batch"), operands);
  return true;
}

/// Rows sorted by expert times the experts' constant matrices [E, K, N] -> a Linear for each
/// expert. `offs` says where the rows of each end; behind the last of them the operator gives
/// anything.
void rewrite_grouped(Node* node) {
  const at::Tensor weight = constant_tensor(node->input(1));
  Value* ends = named_input(node, "offs");
  const bool plain = weight.defined() && weight.dim() == 3 && weight.scalar_type() == at::kFloat;
  if (!plain || ends->mustBeNone() || !named_input(node, "bias")->mustBeNone()) return;
  const std::int64_t count = weight.size(0);
  std::string text = "def grouped(x: Tensor, ends: Tensor", parts, begin;
  std::vector<Value*> operands{node->input(0), ends};
  for (std::int64_t i = 0; i < count; ++i) {
    const std::string name = std::to_string(i);
    const std::string end = i + 1 < count ? "int(ends[" + name + "])" : "";
    text += ", weight_" + name + ": Tensor";
    if (i > 0) parts += ", ";
    parts.append("torch.linear(x[").append(begin).append(":").append(end);
    parts.append("], weight_").append(name).append(", None)");
    begin = end;
    operands.push_back(insert_tensor(node, weight[i].t().contiguous()));
  }
  text += ") -> Tensor:\n    return torch.cat([" + parts + "], 0)\n";
  replace_node(node, *compile_function(text, "grouped"), operands);
}

/// W @ x with a constant matrix on the left -> (x^T W^T)^T, a Linear.
bool rewrite_left_constant(Node* node) {
  const auto weight = constant_tensor(node->input(0));
  if (!is_float_matrix(weight) || constant_tensor(node->input(1)).defined()) return false;
  if (rank_of(node->input(1)).value_or(2) < 2) return false;
  static const auto body = compile_function(R"(
def left(x: Tensor, weight: Tensor) -> Tensor:
    return torch.linear(x.transpose(-2, -1), weight, None).transpose(-2, -1)
)",
                                            "left");
  replace_node(node, *body, {node->input(1), node->input(0)});
  return true;
}

/// A Linear whose weight is computed [N, K] -> x @ weight^T + bias; one whose bias is computed ->
/// a Linear without one, + bias.
void rewrite_computed_linear(Node* node) {
  if (constant_tensor(node->input(1)).defined()) {
    if (node->input(2)->mustBeNone() || constant_tensor(node->input(2)).defined()) return;
    static const auto sum = compile_function(R"(
def linear(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    y = torch.linear(x, weight, None)
    if bias is not None:
        y = y + bias
    return y
)",
                                             "linear");
    replace_node(node, *sum, {node->input(0), node->input(1), node->input(2)});
    return;
  }
  if (rank_of(node->input(1)) != std::optional<std::int64_t>(2)) return;
  static const auto body = compile_function(R"(
def linear(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    y = torch.matmul(x, weight.transpose(-2, -1))
    if bias is not None:
        y = y + bias
    return y
)",
                                            "linear");
  replace_node(node, *body, {node->input(0), node->input(1), node->input(2)});
}

/// A weight that is a view, such as the transposition of another Linear's, gets memory of its own.
void own_weights(Graph& graph) {
  for (Node* node : all_nodes(graph)) {
    if (!is_kind(node, "aten::linear")) continue;
    const auto weight = constant_tensor(node->input(1));
    if (!is_float_matrix(weight) || weight.is_contiguous()) continue;
    node->replaceInput(1, insert_tensor(node, weight.contiguous()));
  }
}

}  // namespace

void canonicalize_matmul(std::shared_ptr<Graph>& graph) {
  const auto baddbmm = compile_function(kBatchedAdd, "baddbmm");
  for (Node* node : all_nodes(*graph)) {
    if (is_kind(node, "aten::einsum")) {
      rewrite_einsum(node);
    } else if (rewrite_contraction(node) ||
               (is_kind(node, "aten::bmm") && (rewrite_batch_of_constants(node, false) ||
                                               rewrite_batch_of_constants(node, true)))) {
      continue;
    } else if (is_kind(node, "aten::linear")) {
      rewrite_computed_linear(node);
    } else if (is_kind(node, "aten::_grouped_mm")) {
      rewrite_grouped(node);
    } else if (is_kind(node, "aten::baddbmm") ||
               (is_kind(node, "aten::addmm") && !is_linear(node))) {
      replace_node(node, *baddbmm,
                   {node->input(0), node->input(1), node->input(2), named_input(node, "beta"),
                    named_input(node, "alpha")});
    } else if (is_kind(node, "aten::bmm") || is_kind(node, "aten::mm") ||
               is_kind(node, "aten::linalg_matmul")) {
      node->replaceWithNewSymbol(c10::Symbol::fromQualString("aten::matmul"));
      node->destroy();
    }
  }
}

void canonicalize_linear(std::shared_ptr<Graph>& graph) {
  own_weights(*graph);
  // Collected first: a rewrite destroys the node it starts from and the add behind it, never
  // another product.
  std::vector<Node*> products;
  for (Node* node : all_nodes(*graph)) {
    if (is_kind(node, "aten::addmm") || is_kind(node, "aten::matmul")) products.push_back(node);
  }
  for (Node* node : products) {
    if (is_kind(node, "aten::addmm")) {
      if (is_linear(node)) {
        replace_by_linear(node, node->input(1), constant_tensor(node->input(2)),
                          constant_tensor(node->input(0)));
      }
      continue;
    }
    drop_leading_ones(node);
    if (!rewrite_matmul(node) && !rewrite_batch_of_constants(node, false) &&
        !rewrite_left_constant(node)) {
      rewrite_batch_of_constants(node, true);
    }
  }
}

}  // namespace repquant
