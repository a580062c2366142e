// Products that PyTorch names by what they are for -> einsum or matrix products.
#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "graph/normalize.h"
#include "graph/rank.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

constexpr std::int64_t kLetters = 26;

/// "abc" for 3 dimensions from 'a' on; nothing without a rank or letters.
std::optional<std::string> letters_of(std::optional<std::int64_t> rank, char first) {
  if (!rank || *rank < 0 || *rank >= kLetters - (first - 'a')) return {};
  std::string letters;
  for (std::int64_t i = 0; i < *rank; ++i) letters += static_cast<char>(first + i);
  return letters;
}

/// tensordot: the dimensions of both lists are summed, the others stay in order.
std::optional<std::string> tensordot_equation(const Node* node) {
  auto a = letters_of(rank_of(node->input(0)), 'a');
  const auto dims_a = constant_ints(node->input(2)), dims_b = constant_ints(node->input(3));
  if (!a) return {};
  auto b = letters_of(rank_of(node->input(1)), static_cast<char>('a' + a->size()));
  if (!b || !dims_a || !dims_b || dims_a->size() != dims_b->size()) return {};
  std::string output = *a + *b;
  for (std::size_t i = 0; i < dims_a->size(); ++i) {
    const auto at = [](std::int64_t dim, const std::string& letters) {
      return static_cast<std::size_t>(dim < 0 ? dim + static_cast<std::int64_t>(letters.size())
                                              : dim);
    };
    const std::size_t in_a = at((*dims_a)[i], *a), in_b = at((*dims_b)[i], *b);
    if (in_a >= a->size() || in_b >= b->size()) return {};
    std::erase(output, (*a)[in_a]);
    std::erase(output, (*b)[in_b]);
    (*b)[in_b] = (*a)[in_a];
  }
  return *a + "," + *b + "->" + output;
}

/// inner: sums over the last dimension of both.
std::optional<std::string> inner_equation(const Node* node) {
  auto a = letters_of(rank_of(node->input(0)), 'a');
  if (!a || a->empty()) return {};
  auto b = letters_of(rank_of(node->input(1)), static_cast<char>('a' + a->size()));
  if (!b || b->empty()) return {};
  b->back() = a->back();
  return *a + "," + *b + "->" + a->substr(0, a->size() - 1) + b->substr(0, b->size() - 1);
}

/// x @ v with a constant vector: a Linear of one output.
bool rewrite_constant_vector(Node* node) {
  const at::Tensor vector = constant_tensor(node->input(1));
  if (!vector.defined() || vector.dim() != 1 || vector.scalar_type() != at::kFloat) return false;
  if (constant_tensor(node->input(0)).defined()) return false;
  static const auto body = compile_function(R"(
def vector(x: Tensor, weight: Tensor) -> Tensor:
    return torch.linear(x, weight, None).squeeze(-1)
)",
                                            "vector");
  Value* row = insert_tensor(node, vector.unsqueeze(0).contiguous());
  replace_node(node, *body, {node->input(0), row});
  return true;
}

/// matmul by a computed vector on the right.
std::optional<std::string> vector_equation(const Node* node) {
  if (rank_of(node->input(1)) != std::optional<std::int64_t>(1)) return {};
  const auto a = letters_of(rank_of(node->input(0)), 'a');
  if (!a || a->size() < 2) return {};
  return *a + "," + a->back() + "->" + a->substr(0, a->size() - 1);
}

std::string bilinear_text(bool with_bias) {
  return std::string("def product(a: Tensor, b: Tensor, weight: Tensor") +
         (with_bias ? ", bias: Tensor" : "") +
         ") -> Tensor:\n    y = torch.einsum(\"...i,oij,...j->...o\", [a, weight, b])\n    return "
         "y" +
         (with_bias ? " + bias\n" : "\n");
}

std::string chain_text(std::size_t count) {
  std::string arguments, product;
  for (std::size_t i = 0; i < count; ++i) {
    arguments += (i > 0 ? ", a" : "a") + std::to_string(i) + ": Tensor";
    product += (i > 0 ? " @ a" : "a") + std::to_string(i);
  }
  return "def product(" + arguments + ") -> Tensor:\n    return " + product + "\n";
}

}  // namespace

bool rewrite_contraction(Node* node) {
  if ((is_kind(node, "aten::matmul") || is_kind(node, "aten::mv")) &&
      rewrite_constant_vector(node)) {
    return true;
  }
  if (is_kind(node, "aten::bilinear")) {
    if (!rank_of(node->input(0)) || rank_of(node->input(0)) != rank_of(node->input(1)))
      return false;
    std::vector<Value*> inputs = node->inputs().vec();
    const bool with_bias = !inputs.back()->mustBeNone();
    if (!with_bias) inputs.pop_back();
    replace_by_product(node, bilinear_text(with_bias), inputs);
    return true;
  }
  if (is_kind(node, "aten::chain_matmul") || is_kind(node, "aten::linalg_multi_dot")) {
    Node* list = node->input(0)->node();
    if (!is_kind(list, "prim::ListConstruct")) return false;
    replace_by_product(node, chain_text(list->inputs().size()), list->inputs().vec());
    return true;
  }
  std::optional<std::string> equation;
  if (is_kind(node, "aten::tensordot")) equation = tensordot_equation(node);
  if (is_kind(node, "aten::inner")) equation = inner_equation(node);
  if (is_kind(node, "aten::mv")) equation = "ab,b->a";
  if (is_kind(node, "aten::dot")) equation = "a,a->";
  if (is_kind(node, "aten::matmul")) equation = vector_equation(node);
  if (!equation) return false;
  replace_by_product(node,
                     "def product(a: Tensor, b: Tensor) -> Tensor:\n    return " +
                         einsum_text(*equation, "a", "b") + "\n",
                     {node->input(0), node->input(1)});
  return true;
}

}  // namespace repquant
