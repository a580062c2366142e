// Einsum -> transpositions, reshapes and, for each pair of operands, one matrix product or Linear,
// or a product of elements where nothing is summed.
#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>

#include "base/list_text.h"
#include "graph/einsum.h"
#include "graph/normalize.h"
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
  if (reshaped) text += size_lines("a", a, roles.left) + size_lines("b", b, roles.right);
  text += reorder("a", a, roles.batch + roles.left + roles.summed);
  text += merge("a", batch, roles.left.size());
  text += merge("a", batch + 1, roles.summed.size());
  text += reorder("b", b, roles.batch + roles.summed + roles.right);
  text += merge("b", batch, roles.summed.size());
  text += merge("b", batch + 1, roles.right.size());
  text += "    y = torch.matmul(a, b)\n";
  if (reshaped) {
    // One of the operands may have a single place for all of the batch.
    text += size_lines("y", roles.batch, roles.batch);
    text += "    y = y.reshape([" + list_text(sizes_of(roles.batch + roles.left + roles.right)) +
            "])\n";
  }
  text += reorder("y", roles.batch + roles.left + roles.right, equation.output);
  return text + "    return y\n";
}

/// a [batch.., left.., 1..] times b [batch.., 1.., right..], element by element.
std::string outer_text(const Equation& equation, const Roles& roles) {
  std::string text = "def einsum(a: Tensor, b: Tensor) -> Tensor:\n";
  text += reorder("a", equation.operands[0], roles.batch + roles.left);
  text += reorder("b", equation.operands[1], roles.batch + roles.right);
  for (std::size_t i = 0; i < roles.right.size(); ++i) text += "    a = a.unsqueeze(-1)\n";
  for (std::size_t i = 0; i < roles.left.size(); ++i) text += merge("b", roles.batch.size(), 0);
  text += "    y = a * b\n";
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

/// Letters instead of the digits that "..." stands for, as text of TorchScript needs them. False if
/// there are not enough.
bool name_dots(Equation& equation) {
  std::string used = equation.output;
  for (const std::string& letters : equation.operands) used += letters;
  std::string free;
  for (const char* range : {"az", "AZ"}) {
    for (char c = range[0]; c <= range[1]; ++c) free += holds(used, c) ? "" : std::string(1, c);
  }
  const auto rename = [&free](std::string& letters) {
    for (char& c : letters) {
      if (c >= '0' && c <= '9') c = free[static_cast<std::size_t>(c - '0')];
    }
  };
  if (free.size() < 10) return false;
  for (std::string& letters : equation.operands) rename(letters);
  rename(equation.output);
  return true;
}

/// One step for operands that are taken two at a time.
struct Term {
  std::string name, letters;
};

/// The letters of two operands that the output or another operand still needs.
std::string kept_letters(const Term& a, const Term& b, const std::vector<Term>& others,
                         const std::string& output) {
  std::string needed = output, kept;
  for (const Term& other : others) needed += other.letters;
  for (const char c : a.letters + b.letters) {
    if (holds(needed, c) && !holds(kept, c)) kept += c;
  }
  return kept;
}

/// Three operands or more, two at a time: in the order of `path` (pairs of places; the result goes
/// to the end), or from the left.
std::string pairs_text(const Equation& equation, const std::vector<std::int64_t>& path) {
  std::string text, arguments;
  std::vector<Term> terms;
  for (const std::string& letters : equation.operands) {
    terms.push_back({"a" + std::to_string(terms.size()), letters});
    arguments += (terms.size() > 1 ? ", " : "") + terms.back().name + ": Tensor";
  }
  const auto take = [&terms](std::size_t i) {
    Term term = terms[i];
    terms.erase(terms.begin() + static_cast<std::ptrdiff_t>(i));
    return term;
  };
  for (std::size_t step = 0; terms.size() > 1; ++step) {
    std::size_t i = 0, k = 1;
    if (!path.empty()) {
      i = static_cast<std::size_t>(std::min(path[2 * step], path[2 * step + 1]));
      k = static_cast<std::size_t>(std::max(path[2 * step], path[2 * step + 1]));
    }
    const Term second = take(k), first = take(i);
    const std::string letters =
        terms.empty() ? equation.output : kept_letters(first, second, terms, equation.output);
    const Term result{"y" + std::to_string(step), letters};
    text += "    " + result.name + " = " +
            einsum_text(first.letters + "," + second.letters + "->" + letters, first.name,
                        second.name) +
            "\n";
    terms.insert(path.empty() ? terms.begin() : terms.end(), result);
  }
  return "def product(" + arguments + ") -> Tensor:\n" + text + "    return " + terms[0].name +
         "\n";
}

/// The contraction order that torch.einsum was given; empty if none, nothing if it is no such
/// order.
std::optional<std::vector<std::int64_t>> path_of(const Node* node, std::size_t operands) {
  const Value* path = named_input(node, "path");
  if (path == nullptr || path->mustBeNone()) return std::vector<std::int64_t>{};
  auto places = constant_ints(path);
  if (!places || places->size() != 2 * (operands - 1)) return {};
  for (std::size_t i = 0; i < places->size(); i += 2) {
    const auto left = static_cast<std::int64_t>(operands - i / 2);
    const std::int64_t a = (*places)[i], b = (*places)[i + 1];
    if (a == b || std::min(a, b) < 0 || std::max(a, b) >= left) return {};
  }
  return places;
}

/// Text that sums out of `name` the letters that neither the other operand nor the output has, and
/// takes them from `letters`.
std::string sum_text(const std::string& name, std::string& letters, const std::string& others) {
  std::vector<std::string> dims;
  std::string kept;
  for (std::size_t i = 0; i < letters.size(); ++i) {
    if (holds(others, letters[i])) {
      kept += letters[i];
    } else {
      dims.push_back(std::to_string(i));
    }
  }
  letters = kept;
  return dims.empty() ? "" : "    " + name + " = " + name + ".sum([" + list_text(dims) + "])\n";
}

/// A pair where letters of one operand alone are summed: sums them first. False if there are none.
bool rewrite_sums(Node* node, Equation equation, const std::vector<Value*>& operands) {
  if (!name_dots(equation)) return false;
  std::string& a = equation.operands[0];
  std::string& b = equation.operands[1];
  const std::string sums =
      sum_text("a", a, b + equation.output) + sum_text("b", b, a + equation.output);
  if (sums.empty()) return false;
  const std::string rest = einsum_text(a + "," + b + "->" + equation.output, "a", "b");
  replace_by_product(
      node, "def product(a: Tensor, b: Tensor) -> Tensor:\n" + sums + "    return " + rest + "\n",
      operands);
  return true;
}

bool rewrite_pairs(Node* node, Equation& equation, const std::vector<Value*>& operands) {
  const auto path = path_of(node, operands.size());
  if (!path || !name_dots(equation)) return false;
  replace_by_product(node, pairs_text(equation, *path), operands);
  return true;
}

}  // namespace

std::string einsum_text(const std::string& equation, const std::string& left,
                        const std::string& right) {
  return "torch.einsum(\"" + equation + "\", [" + left + ", " + right + "])";
}

void replace_by_product(Node* node, const std::string& text, const std::vector<Value*>& inputs) {
  for (Node* made : replace_node(node, *compile_function(text, "product"), inputs)) {
    if (is_kind(made, "aten::einsum")) rewrite_einsum(made);
  }
}

bool rewrite_einsum(Node* node) {
  const auto text = constant_text(node->input(0));
  Node* list = node->input(1)->node();
  if (!text || !is_kind(list, "prim::ListConstruct") || list->inputs().size() < 2) return false;
  const std::vector<Value*> operands = list->inputs().vec();
  std::vector<std::optional<std::int64_t>> ranks;
  for (const Value* operand : operands) ranks.push_back(rank_of(operand));
  auto equation = parse_equation(*text, ranks);
  if (!equation) return false;
  if (operands.size() > 2) return rewrite_pairs(node, *equation, operands);
  if (rewrite_sums(node, *equation, operands)) return true;
  Value* left = operands[0];
  Value* right = operands[1];
  if (constant_tensor(left).defined()) {
    std::swap(left, right);
    std::swap(equation->operands[0], equation->operands[1]);
  }
  const auto roles = roles_of(*equation);
  if (!roles) return false;
  const at::Tensor constant = constant_tensor(right);
  if (constant.defined() && roles->batch.empty() && !roles->summed.empty() &&
      constant.scalar_type() == at::kFloat) {
    std::vector<std::int64_t> sizes;
    const at::Tensor weight = matrix_of(constant, equation->operands[1], *roles, sizes);
    const auto body = compile_function(linear_text_of(*equation, *roles, sizes), "einsum");
    replace_node(node, *body, {left, insert_tensor(node, weight)});
    return true;
  }
  const std::string body =
      roles->summed.empty() ? outer_text(*equation, *roles) : product_text(*equation, *roles);
  replace_node(node, *compile_function(body, "einsum"), {left, right});
  return true;
}

}  // namespace repquant
