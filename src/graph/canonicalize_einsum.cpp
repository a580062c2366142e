// Einsum of two operands -> transpositions, reshapes and one matrix product or Linear.
#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>

#include "base/list_text.h"
#include "graph/einsum.h"
#include "graph/rank.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

bool holds(const std::string& letters, char c) { return letters.find(c) != std::string::npos; }

/// The letters of a product: in both operands and the output, in one operand and the output, in
/// both operands alone.
struct Roles {
  std::string batch, left, right, summed;
};

std::optional<Roles> roles_of(const Equation& equation) {
  const std::string& a = equation.operands[0];
  const std::string& b = equation.operands[1];
  Roles roles;
  for (const std::string* letters : {&a, &b, &equation.output}) {
    if (std::set<char>(letters->begin(), letters->end()).size() != letters->size()) return {};
  }
  for (const char c : equation.output) {
    (holds(a, c) && holds(b, c) ? roles.batch : holds(a, c) ? roles.left : roles.right) += c;
  }
  for (const char c : a) {
    if (holds(equation.output, c)) continue;
    if (!holds(b, c)) return {};  // summed in one operand alone
    roles.summed += c;
  }
  for (const char c : b) {
    if (!holds(equation.output, c) && !holds(a, c)) return {};
  }
  return roles;
}

/// Text that brings the dimensions `from` of `name` into the order `to`; empty if they are.
std::string reorder(const std::string& name, const std::string& from, const std::string& to) {
  if (from == to) return "";
  const std::size_t n = from.size();
  std::string swapped = from;
  if (n >= 2) std::swap(swapped[n - 1], swapped[n - 2]);
  if (swapped == to) return "    " + name + " = " + name + ".transpose(-2, -1)\n";
  std::vector<std::string> order;
  for (const char c : to) order.push_back(std::to_string(from.find(c)));
  return "    " + name + " = " + name + ".permute([" + list_text(order) + "])\n";
}

/// Text that makes one dimension of the `count` dimensions at `first` (of `rank`), or adds it.
std::string merge(const std::string& name, std::size_t first, std::size_t count) {
  if (count == 1) return "";
  if (count == 0)
    return "    " + name + " = " + name + ".unsqueeze(" + std::to_string(first) + ")\n";
  return "    " + name + " = " + name + ".flatten(" + std::to_string(first) + ", " +
         std::to_string(first + count - 1) + ")\n";
}

/// Sizes of the letters, as text: "size_b".
std::string size_lines(const std::string& operand, const std::string& letters,
                       const std::string& wanted) {
  std::string text;
  for (std::size_t i = 0; i < letters.size(); ++i) {
    if (!holds(wanted, letters[i])) continue;
    text += std::string("    size_") + letters[i] + " = " + operand + ".size(" + std::to_string(i) +
            ")\n";
  }
  return text;
}

std::vector<std::string> sizes_of(const std::string& letters) {
  std::vector<std::string> sizes;
  for (const char c : letters) sizes.push_back(std::string("size_") + c);
  return sizes;
}

/// a [batch.., left.., summed..] times b [batch.., summed.., right..] by aten::matmul.
std::string product_text(const Equation& equation, const Roles& roles) {
  const std::string& a = equation.operands[0];
  const std::string& b = equation.operands[1];
  const std::size_t batch = roles.batch.size();
  std::string text = "def einsum(a: Tensor, b: Tensor) -> Tensor:\n";
  const bool reshaped = roles.left.size() != 1 || roles.right.size() != 1;
  if (reshaped) {
    text += size_lines("a", a, roles.batch + roles.left) + size_lines("b", b, roles.right);
  }
  text += reorder("a", a, roles.batch + roles.left + roles.summed);
  text += merge("a", batch, roles.left.size());
  text += merge("a", batch + 1, roles.summed.size());
  text += reorder("b", b, roles.batch + roles.summed + roles.right);
  text += merge("b", batch, roles.summed.size());
  text += merge("b", batch + 1, roles.right.size());
  text += "    y = torch.matmul(a, b)\n";
  if (reshaped) {
    text += "    y = y.reshape([" + list_text(sizes_of(roles.batch + roles.left + roles.right)) +
            "])\n";
  }
  text += reorder("y", roles.batch + roles.left + roles.right, equation.output);
  return text + "    return y\n";
}

/// a [left.., summed..] times a constant, as aten::linear.
std::string linear_text_of(const Equation& equation, const Roles& roles,
                           const std::vector<std::int64_t>& right_sizes) {
  const std::string& a = equation.operands[0];
  std::string text = "def einsum(a: Tensor, weight: Tensor) -> Tensor:\n";
  const bool reshaped = roles.right.size() != 1;
  if (reshaped) text += size_lines("a", a, roles.left);
  text += reorder("a", a, roles.left + roles.summed);
  text += merge("a", roles.left.size(), roles.summed.size());
  text += "    y = torch.linear(a, weight, None)\n";
  if (reshaped) {
    std::vector<std::string> sizes = sizes_of(roles.left);
    for (const auto size : right_sizes) sizes.push_back(std::to_string(size));
    text += "    y = y.reshape([" + list_text(sizes) + "])\n";
  }
  text += reorder("y", roles.left + roles.right, equation.output);
  return text + "    return y\n";
}

/// The constant operand as [right.., summed..] made a matrix.
at::Tensor matrix_of(const at::Tensor& constant, const std::string& letters, const Roles& roles,
                     std::vector<std::int64_t>& right_sizes) {
  std::vector<std::int64_t> order;
  std::int64_t rows = 1;
  for (const char c : roles.right + roles.summed) {
    order.push_back(static_cast<std::int64_t>(letters.find(c)));
  }
  for (const char c : roles.right) {
    right_sizes.push_back(constant.size(static_cast<std::int64_t>(letters.find(c))));
    rows *= right_sizes.back();
  }
  return constant.permute(order).reshape({rows, -1}).contiguous();
}

}  // namespace

bool rewrite_einsum(Node* node) {
  const auto text = constant_text(node->input(0));
  Node* list = node->input(1)->node();
  if (!text || !is_kind(list, "prim::ListConstruct") || list->inputs().size() != 2) return false;
  Value* left = list->input(0);
  Value* right = list->input(1);
  auto equation = parse_equation(*text, {rank_of(left), rank_of(right)});
  if (!equation) return false;
  if (constant_tensor(left).defined()) {
    std::swap(left, right);
    std::swap(equation->operands[0], equation->operands[1]);
  }
  const auto roles = roles_of(*equation);
  if (!roles || roles->summed.empty()) return false;
  const at::Tensor constant = constant_tensor(right);
  if (constant.defined() && roles->batch.empty() && constant.scalar_type() == at::kFloat) {
    std::vector<std::int64_t> sizes;
    const at::Tensor weight = matrix_of(constant, equation->operands[1], *roles, sizes);
    const auto body = compile_function(linear_text_of(*equation, *roles, sizes), "einsum");
    replace_node(node, *body, {left, insert_tensor(node, weight)});
    return true;
  }
  replace_node(node, *compile_function(product_text(*equation, *roles), "einsum"), {left, right});
  return true;
}

}  // namespace repquant
