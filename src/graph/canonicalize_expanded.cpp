// Products with one constant matrix that is repeated for each sample of a batch, as bmm demands it.
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

/// One matrix for a batch whose sizes are only known at run time.
struct ExpandedMatrix {
  at::Tensor matrix;         // [K, N]
  std::vector<Value*> lead;  // sizes of the batch; -1: as it is
};

bool repeats(const Node* node) {
  return is_kind(node, "aten::expand") || is_kind(node, "aten::repeat") ||
         is_kind(node, "aten::broadcast_to");
}

/// Seen through transpositions of the last two dimensions and copies.
std::optional<ExpandedMatrix> expanded_matrix(const Value* value) {
  bool turned = false;
  for (const Node* node = value->node();; node = value->node()) {
    if (swaps_last_two(node)) turned = !turned;
    if (!swaps_last_two(node) && !is_kind(node, "aten::contiguous") &&
        !is_kind(node, "aten::clone"))
      break;
    value = node->input(0);
  }
  const Node* node = value->node();
  if (!repeats(node) || node->input(1)->node()->kind() != c10::prim::ListConstruct) return {};
  const at::Tensor tensor = constant_tensor(node->input(0));
  if (!tensor.defined() || tensor.dim() < 2 || tensor.scalar_type() != at::kFloat) return {};
  if (tensor.numel() != tensor.size(-1) * tensor.size(-2)) return {};
  const auto sizes = node->input(1)->node()->inputs();
  if (sizes.size() < static_cast<std::size_t>(tensor.dim())) return {};
  for (const std::int64_t d : {-1, -2}) {
    const auto given = constant_int(sizes[sizes.size() - static_cast<std::size_t>(-d)]);
    const bool whole = is_kind(node, "aten::repeat")
                           ? given == std::optional<std::int64_t>(1)
                           : given && (*given == -1 || *given == tensor.size(d));
    if (!whole) return {};
  }
  at::Tensor matrix = tensor.reshape({tensor.size(-2), tensor.size(-1)});
  if (turned) matrix = matrix.t();
  return ExpandedMatrix{matrix.contiguous(), {sizes.begin(), sizes.end() - 2}};
}

/// x @ expand(W) -> x.expand(batch) @ W. The batch of bmm's other operand is the same already.
bool rewrite_product(Node* node, std::size_t at) {
  const auto found = expanded_matrix(node->input(at));
  Value* x = node->input(1 - at);
  if (!found || constant_tensor(x).defined()) return false;
  const auto rank = is_kind(node, "aten::bmm") ? std::optional<std::int64_t>(3) : rank_of(x);
  if (!rank || *rank < 2) return false;
  std::vector<Value*> operands{x, insert_tensor(node, found->matrix)};
  std::string text = "def product(x: Tensor, matrix: Tensor";
  if (!is_kind(node, "aten::bmm")) {
    std::string sizes;
    for (auto i = static_cast<std::int64_t>(found->lead.size()) + 2; i < *rank; ++i)
      sizes += "-1, ";
    for (Value* size : found->lead) {
      const std::string name = "size_" + std::to_string(operands.size());
      text += ", " + name + ": int";
      sizes += name + ", ";
      operands.push_back(size);
    }
    text += ") -> Tensor:\n    x = x.expand([" + sizes + "-1, -1])\n";
  } else {
    text += ") -> Tensor:\n";
  }
  text += std::string("    return torch.matmul(") + (at == 1 ? "x, matrix" : "matrix, x") + ")\n";
  replace_node(node, *compile_function(text, "product"), operands);
  return true;
}

}  // namespace

void share_expanded_matrices(std::shared_ptr<torch::jit::Graph>& graph) {
  for (Node* node : all_nodes(*graph)) {
    if (!is_kind(node, "aten::matmul") && !is_kind(node, "aten::bmm")) continue;
    if (!rewrite_product(node, 1)) rewrite_product(node, 0);
  }
}

}  // namespace repquant
