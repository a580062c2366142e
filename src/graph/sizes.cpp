#include "graph/sizes.h"

#include <ATen/core/Tensor.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <set>
#include <string>

#include "graph/normalize.h"
#include "graph/rank.h"
#include "graph/rewrite.h"

namespace repquant {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;
using OptionalSize = std::optional<Size>;

Sizes::Sizes(const Graph& graph) {
  Ranks ranks;  // asked in the order of the graph
  for (const Value* input : graph.inputs()) add(input, ranks.of(input));
  for (const Node* node : graph.nodes()) {
    for (const Value* output : node->outputs()) {
      if (output->type()->isSubtypeOf(*c10::TensorType::get())) add(output, ranks.of(output));
    }
  }
}

void Sizes::add(const Value* value, std::optional<std::int64_t> rank) {
  if (!rank) return;
  std::vector<Size> sizes;
  for (std::int64_t d = 0; d < *rank; ++d) {
    sizes.push_back(given(value, *rank, d).value_or(Size{.tensor = value, .dimension = d}));
  }
  known_[value] = std::move(sizes);
}

std::optional<std::int64_t> Sizes::rank(const Value* value) const {
  const auto found = known_.find(value);
  if (found == known_.end()) return {};
  return static_cast<std::int64_t>(found->second.size());
}

OptionalSize Sizes::of(const Value* value, std::int64_t dimension) const {
  const auto found = known_.find(value);
  if (found == known_.end() || dimension < 0) return {};
  const auto d = static_cast<std::size_t>(dimension);
  return d < found->second.size() ? OptionalSize(found->second[d]) : OptionalSize();
}

std::optional<std::int64_t> Sizes::dimension(const Value* argument, const Value* tensor) const {
  const auto constant = argument == nullptr ? std::nullopt : constant_int(argument);
  if (!constant || *constant >= 0) return constant;
  const auto of_tensor = rank(tensor);
  return of_tensor ? std::optional(*constant + *of_tensor) : std::nullopt;
}

/// Of what computes `value`.
OptionalSize Sizes::given(const Value* value, std::int64_t rank, std::int64_t dimension) const {
  const Node* node = value->node();
  if (const at::Tensor t = constant_tensor(value); t.defined()) {
    return Size{.number = t.size(dimension)};
  }
  if (is_kind(node, "prim::ListUnpack")) return part(node, dimension);
  if (is_kind(node, "aten::reshape")) return reshaped(node, rank, dimension);
  if (is_kind(node, "aten::expand")) return expanded(node, rank, dimension);
  if (is_kind(node, "aten::matmul")) return product(node, rank, dimension);
  if (is_kind(node, "aten::linear")) {
    const OptionalSize behind = of(node->input(0), dimension + 1);
    if (behind) return of(node->input(0), dimension);
    return of(node->input(0), dimension) ? of(node->input(1), 0) : OptionalSize();
  }
  if (is_kind(node, "aten::cat")) {
    const Node* list = node->input(0)->node();
    if (list->kind() != c10::prim::ListConstruct) return {};
    for (const Value* part : list->inputs()) {
      if (this->rank(part) != std::optional(rank)) continue;  // an empty vector
      const auto at = this->dimension(node->input(1), part);
      return at && *at != dimension ? of(part, dimension) : OptionalSize();
    }
    return {};
  }
  if (keeps_sizes(node)) return of(node->input(0), dimension);
  if (is_broadcast(node)) return broadcast(node, rank, dimension);
  return node->inputs().empty() ? OptionalSize() : moved(node, dimension);
}

OptionalSize Sizes::moved(const Node* node, std::int64_t dimension) const {
  const Value* x = node->input(0);
  if (is_kind(node, "aten::transpose")) {
    const auto a = this->dimension(node->input(1), x), b = this->dimension(node->input(2), x);
    if (!a || !b) return {};
    return of(x, dimension == *a ? *b : dimension == *b ? *a : dimension);
  }
  if (const auto order = permute_order(node)) {
    return of(x, (*order)[static_cast<std::size_t>(dimension)]);
  }
  if (is_kind(node, "aten::unsqueeze")) {
    const auto from = rank(x);
    auto at = constant_int(node->input(1));
    if (!from || !at) return {};
    if (*at < 0) *at += *from + 1;
    return dimension == *at ? Size{.number = 1} : of(x, dimension - (dimension > *at ? 1 : 0));
  }
  if (is_kind(node, "aten::select")) {
    const auto at = this->dimension(node->input(1), x);
    return at ? of(x, dimension + (dimension >= *at ? 1 : 0)) : OptionalSize();
  }
  if (is_kind(node, "aten::slice") || is_kind(node, "aten::narrow")) {
    const auto at = this->dimension(node->input(1), x);
    return at && *at != dimension ? of(x, dimension) : OptionalSize();
  }
  if (is_kind(node, "aten::flatten")) {
    const auto at = this->dimension(node->input(1), x);
    return at && dimension < *at ? of(x, dimension) : OptionalSize();
  }
  return {};
}

/// Of an element of what split, chunk or unbind gives.
OptionalSize Sizes::part(const Node* unpack, std::int64_t dimension) const {
  const Node* list = unpack->input(0)->node();
  if (!gives_parts(list)) return {};
  const auto at = this->dimension(named_input(list, "dim"), list->input(0));
  if (!at) return {};
  if (is_kind(list, "aten::unbind")) {
    return of(list->input(0), dimension + (dimension >= *at ? 1 : 0));
  }
  return dimension != *at ? of(list->input(0), dimension) : OptionalSize();
}

OptionalSize Sizes::reshaped(const Node* node, std::int64_t rank, std::int64_t dimension) const {
  const Value *from = node->input(0), *list = node->input(1);
  if (const OptionalSize told = in_list(list, dimension)) return told;
  const auto before = this->rank(from);
  if (!before || dimension >= *before) return {};
  // What is left for -1, where all else is the same.
  for (std::int64_t d = 0; d < dimension; ++d) {
    if (!of(from, d) || of(from, d) != in_list(list, d)) return {};
  }
  const auto number = [](const OptionalSize& size) {
    return size && size->tensor == nullptr ? size->number : 0;
  };
  std::int64_t behind_before = 1, behind_after = 1;
  for (std::int64_t d = dimension + 1; d < *before; ++d) behind_before *= number(of(from, d));
  for (std::int64_t d = dimension + 1; d < rank; ++d) behind_after *= number(in_list(list, d));
  return behind_before > 0 && behind_before == behind_after ? of(from, dimension) : OptionalSize();
}

OptionalSize Sizes::expanded(const Node* node, std::int64_t rank, std::int64_t dimension) const {
  if (const OptionalSize told = in_list(node->input(1), dimension)) return told;
  const auto before = this->rank(node->input(0));  // -1: as it is
  return before ? of(node->input(0), dimension - (rank - *before)) : OptionalSize();
}

/// Of the shape that a reshape or an expand is given; nothing for -1.
OptionalSize Sizes::in_list(const Value* list, std::int64_t dimension) const {
  const auto place = static_cast<std::size_t>(dimension);
  const auto number = [](std::int64_t n) {
    return n >= 0 ? OptionalSize(Size{.number = n}) : OptionalSize();
  };
  if (const auto numbers = constant_ints(list)) return number(numbers->at(place));
  if (list->node()->kind() != c10::prim::ListConstruct) return {};
  const Value* item = list->node()->input(place);
  if (const auto constant = constant_int(item)) return number(*constant);
  const Node* asked = item->node();
  if (is_kind(asked, "aten::size") && asked->inputs().size() == 2) {
    const auto at = this->dimension(asked->input(1), asked->input(0));
    return at ? of(asked->input(0), *at) : OptionalSize();
  }
  if (asked->inputs().empty()) return {};
  const Node* all = asked->input(0)->node();
  if (!is_kind(all, "aten::size") || all->inputs().size() != 1) return {};
  if (is_kind(asked, "prim::ListUnpack")) {
    return of(all->input(0), static_cast<std::int64_t>(item->offset()));
  }
  const bool element = is_kind(asked, "aten::__getitem__");
  const auto at = element ? this->dimension(asked->input(1), all->input(0)) : std::nullopt;
  return at ? of(all->input(0), *at) : OptionalSize();
}

/// Of operands that are broadcast to `rank` dimensions: the one size beside 1 that they have.
OptionalSize Sizes::broadcast(const Node* node, std::int64_t rank, std::int64_t dimension) const {
  OptionalSize found;
  for (const Value* operand : node->inputs()) {
    if (!operand->type()->isSubtypeOf(*c10::TensorType::get())) continue;
    const auto of_operand = this->rank(operand);
    if (!of_operand) return {};
    const std::int64_t d = dimension - (rank - *of_operand);
    if (d < 0) continue;
    const Size one = *of(operand, d);
    if (one == Size{.number = 1}) continue;
    if (found && *found != one) {
      if (found->tensor == nullptr)
        continue;  // a number: whatever else is there equals it, or is 1
      if (one.tensor != nullptr) return {};
    }
    found = one;
  }
  return found ? found : Size{.number = 1};
}

OptionalSize Sizes::product(const Node* node, std::int64_t rank, std::int64_t dimension) const {
  const Value *left = node->input(0), *right = node->input(1);
  const auto rows = this->rank(left), columns = this->rank(right);
  if (!rows || !columns || *rows < 2 || *columns < 2) return {};
  if (dimension == rank - 1) return of(right, *columns - 1);
  if (dimension == rank - 2) return of(left, *rows - 2);
  return broadcast(node, rank, dimension);
}

bool keeps_sizes(const Node* node) {
  static const std::set<std::string> kinds{
      "aten::gelu",        "aten::relu",       "aten::silu",        "aten::sigmoid",
      "aten::tanh",        "aten::erf",        "aten::exp",         "aten::neg",
      "aten::hardswish",   "aten::leaky_relu", "aten::relu6",       "aten::mish",
      "aten::softplus",    "aten::elu",        "aten::hardtanh",    "aten::hardsigmoid",
      "aten::clamp",       "aten::abs",        "aten::square",      "aten::sqrt",
      "aten::rsqrt",       "aten::contiguous", "aten::clone",       "aten::softmax",
      "aten::_softmax",    "aten::layer_norm", "aten::rms_norm",    "aten::_safe_softmax",
      "aten::log_softmax", "aten::to",         "aten::logical_not", "aten::nan_to_num",
      "aten::type_as"};
  if (kinds.count(kind_name(node)) == 0) return false;
  // Bounds may be tensors, which are broadcast.
  return !is_kind(node, "aten::clamp") ||
         std::none_of(node->inputs().begin() + 1, node->inputs().end(), [](const Value* bound) {
           return bound->type()->isSubtypeOf(*c10::TensorType::get());
         });
}

bool is_broadcast(const Node* node) {
  static const std::set<std::string> kinds{
      "aten::add",         "aten::sub",  "aten::mul",     "aten::div",         "aten::where",
      "aten::maximum",     "aten::rsub", "aten::minimum", "aten::logical_and", "aten::logical_or",
      "aten::masked_fill", "aten::eq",   "aten::ne",      "aten::lt",          "aten::le",
      "aten::gt",          "aten::ge",   "aten::__and__", "aten::__or__"};
  return kinds.count(kind_name(node)) > 0;
}

}  // namespace repquant
