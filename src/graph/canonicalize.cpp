// Other spellings of Linear and matrix products, rewritten to the canonical ones.
#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <string>

#include "graph/normalize.h"
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
bool rewrite_addmm(Node* node) {
  const auto bias = constant_tensor(node->input(0));
  const auto weight = constant_tensor(node->input(2));
  if (!is_float_matrix(weight) || !bias.defined() || bias.dim() != 1) return false;
  if (bias.size(0) != weight.size(1)) return false;
  if (!is_one(named_input(node, "beta")) || !is_one(named_input(node, "alpha"))) return false;
  replace_by_linear(node, node->input(1), weight, bias);
  return true;
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
      if (bias.defined() && bias.dim() == 1 && bias.size(0) == weight.size(1)) {
        replace_by_linear(add, node->input(0), weight, bias);
        node->destroy();
        return true;
      }
    }
  }
  replace_by_linear(node, node->input(0), weight, {});
  return true;
}

/// An einsum like "bhid,bhjd->bhij": the same batch letters lead all three, one letter is summed.
/// Gives the transpositions that make it a matmul, or nothing.
struct Product {
  bool transpose_left = false, transpose_right = false;
};
std::optional<Product> as_product(const std::string& equation) {
  std::string text;
  for (const char c : equation) {
    if (c != ' ') text += c;
  }
  const auto comma = text.find(','), arrow = text.find("->");
  if (comma == std::string::npos || arrow == std::string::npos || comma > arrow) return {};
  const std::string left = text.substr(0, comma);
  const std::string right = text.substr(comma + 1, arrow - comma - 1);
  const std::string out = text.substr(arrow + 2);
  const std::size_t n = left.size();
  if (n < 3 || right.size() != n || out.size() != n) return {};
  if (left.substr(0, n - 2) != out.substr(0, n - 2)) return {};
  if (right.substr(0, n - 2) != out.substr(0, n - 2)) return {};
  const char row = out[n - 2], column = out[n - 1];
  if (row == column) return {};
  const auto pair = [n](const std::string& s) { return s.substr(n - 2); };
  for (const bool tl : {false, true}) {
    for (const bool tr : {false, true}) {
      std::string l = pair(left), r = pair(right);
      if (tl) std::swap(l[0], l[1]);
      if (tr) std::swap(r[0], r[1]);
      if (l[0] == row && r[1] == column && l[1] == r[0] && l[1] != row && l[1] != column) {
        return Product{tl, tr};
      }
    }
  }
  return {};
}

bool rewrite_einsum(Node* node) {
  const auto equation = torch::jit::constant_as<std::string>(node->input(0));
  Node* list = node->input(1)->node();
  if (!equation || !is_kind(list, "prim::ListConstruct") || list->inputs().size() != 2)
    return false;
  const auto product = as_product(*equation);
  if (!product) return false;
  Graph& graph = *node->owningGraph();
  torch::jit::WithInsertPoint guard(node);
  const auto operand = [&](Value* value, bool transposed) {
    if (!transposed) return value;
    Value* last = graph.insertConstant(std::int64_t{-1});
    Value* second = graph.insertConstant(std::int64_t{-2});
    Node* transpose =
        graph.create(c10::Symbol::fromQualString("aten::transpose"), {value, second, last});
    transpose->insertBefore(node)->copyMetadata(node);
    return transpose->output();
  };
  Value* left = operand(list->input(0), product->transpose_left);
  Value* right = operand(list->input(1), product->transpose_right);
  Node* matmul = graph.create(c10::Symbol::fromQualString("aten::matmul"), {left, right});
  matmul->insertBefore(node)->copyMetadata(node);
  node->output()->replaceAllUsesWith(matmul->output());
  node->destroy();
  return true;
}

}  // namespace

void canonicalize_matmul(std::shared_ptr<Graph>& graph) {
  const auto baddbmm = compile_function(kBatchedAdd, "baddbmm");
  for (Node* node : all_nodes(*graph)) {
    if (is_kind(node, "aten::einsum")) {
      rewrite_einsum(node);
    } else if (is_kind(node, "aten::baddbmm")) {
      replace_node(node, *baddbmm,
                   {node->input(0), node->input(1), node->input(2), named_input(node, "beta"),
                    named_input(node, "alpha")});
    } else if (is_kind(node, "aten::bmm")) {
      node->replaceWithNewSymbol(c10::Symbol::fromQualString("aten::matmul"));
      node->destroy();
    }
  }
}

void canonicalize_linear(std::shared_ptr<Graph>& graph) {
  // Collected first: a rewrite destroys the node it starts from and the add behind it, never
  // another product.
  std::vector<Node*> products;
  for (Node* node : all_nodes(*graph)) {
    if (is_kind(node, "aten::addmm") || is_kind(node, "aten::matmul") ||
        is_kind(node, "aten::mm")) {
      products.push_back(node);
    }
  }
  for (Node* node : products) {
    is_kind(node, "aten::addmm") ? rewrite_addmm(node) : rewrite_matmul(node);
  }
}

}  // namespace repquant
