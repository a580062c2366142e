// Linears of equal groups of channels, side by side, and what makes their codes -> one operator: a
// convolution in many small groups is more calls than work.
#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "graph/normalize.h"
#include "graph/rewrite.h"
#include "ops/kernels/pack.h"
#include "runtime/fuse.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// One group: x -> narrow -> token_quantize -> linear.
struct Group {
  Node *narrow = nullptr, *tokens = nullptr, *linear = nullptr;

  std::optional<std::int64_t> number(const char* argument) const {
    return constant_int(named_input(linear, argument));
  }
  std::optional<std::int64_t> top() const { return constant_int(named_input(tokens, "top")); }
  bool has(const char* argument) const { return !named_input(tokens, argument)->mustBeNone(); }
};

std::optional<Group> group_of(Value* part, const Value* list) {
  Group group{.linear = part->node()};
  if (!is_kind(group.linear, "repquant::linear") || part->uses().size() != 1 ||
      part->uses()[0].user != list->node() ||
      !named_input(group.linear, "residual")->mustBeNone() || group.number("output") != 0 ||
      named_input(group.linear, "rows")->mustBeNone()) {
    return {};
  }
  group.tokens = named_input(group.linear, "codes")->node();
  if (!is_kind(group.tokens, "repquant::token_quantize") ||
      named_input(group.linear, "rows")->node() != group.tokens ||
      group.tokens->output(0)->uses().size() != 1 || group.tokens->output(1)->uses().size() != 1) {
    return {};
  }
  group.narrow = named_input(group.tokens, "x")->node();
  if (!is_kind(group.narrow, "aten::narrow") || constant_int(group.narrow->input(1)) != -1) {
    return {};
  }
  return group;
}

/// True if the groups are alike, and read the first channels of one value in their order.
bool are_alike(const std::vector<Group>& groups) {
  const Group& first = groups.front();
  const auto columns = first.number("columns"), bits = first.number("bits");
  if (!columns || !bits || !first.top() ||
      4 * ops::packed_groups(*columns, *bits <= 4) != *columns) {
    return false;
  }
  std::int64_t begin = 0;
  for (const Group& group : groups) {
    for (const char* argument : {"channels", "columns", "bits", "activation"}) {
      if (group.number(argument) != first.number(argument)) return false;
    }
    if (group.narrow->input(0) != first.narrow->input(0) || group.top() != first.top() ||
        group.has("levels") != first.has("levels") ||
        constant_int(group.narrow->input(2)) != begin ||
        constant_int(group.narrow->input(3)) != columns) {
      return false;
    }
    begin += *columns;
  }
  return true;
}

/// The groups that `cat` puts side by side; none if it joins anything else.
std::vector<Group> groups_of(const Node* cat) {
  if (!is_kind(cat, "aten::cat") || constant_int(cat->input(1)) != -1) return {};
  Value* list = cat->input(0);
  if (list->node()->kind() != c10::prim::ListConstruct || list->uses().size() != 1) return {};
  std::vector<Group> groups;
  for (Value* part : list->node()->inputs()) {
    const auto group = group_of(part, list);
    if (!group) return {};
    groups.push_back(*group);
  }
  if (groups.size() < 2 || !are_alike(groups)) return {};
  return groups;
}

/// The constants of all groups, one below the other.
at::Tensor stacked(const std::vector<Group>& groups, const char* argument) {
  std::vector<at::Tensor> parts;
  for (const Group& group : groups) {
    parts.push_back(constant_tensor(named_input(group.linear, argument)));
  }
  return at::stack(parts);
}

/// Of the channels before they become codes; none if no group has such a factor or summand, and
/// `neutral` where others have.
c10::IValue joined(const std::vector<Group>& groups, const char* argument, double neutral) {
  const auto has = [&](const Group& group) { return group.has(argument); };
  if (std::none_of(groups.begin(), groups.end(), has)) return {};
  const std::int64_t columns = *groups.front().number("columns");
  std::vector<at::Tensor> parts;
  for (const Group& group : groups) {
    parts.push_back(has(group) ? constant_tensor(named_input(group.tokens, argument))
                               : at::full({columns}, neutral, at::kFloat));
  }
  return at::cat(parts);
}

Value* levels_of(const std::vector<Group>& groups, Node* before) {
  torch::jit::WithInsertPoint guard(before);
  std::vector<Value*> levels;
  for (const Group& group : groups) {
    if (group.has("levels")) levels.push_back(named_input(group.tokens, "levels"));
  }
  torch::jit::Graph& graph = *before->owningGraph();
  return graph.insertNode(graph.createList(c10::TensorType::get(), levels))->output();
}

void join(FusionContext& context, Node* cat, const std::vector<Group>& groups) {
  const Group& first = groups.front();
  const std::string module = context.module_of(first.linear->output());
  c10::IValue multiplier = joined(groups, "multiplier", 1.0);
  const c10::IValue offset = joined(groups, "offset", 0.0);
  if (multiplier.isNone() && !offset.isNone()) multiplier = at::ones_like(offset.toTensor());
  const auto columns = *first.number("columns");
  Value* x = insert_operator(
      cat, "aten::narrow",
      {first.narrow->input(0), std::int64_t{-1}, std::int64_t{0}, columns * std::ssize(groups)});
  Value* y = insert_operator(
      cat, "repquant::grouped_linear",
      {x, stacked(groups, "weight"), stacked(groups, "compensation"), stacked(groups, "scale"),
       stacked(groups, "bias"), stacked(groups, "sums"), *first.number("channels"), columns,
       *first.number("bits"), *first.number("activation"), *first.top(), levels_of(groups, cat),
       multiplier, offset});
  context.replace(cat->output(), y, {.module = module});
  Node* list = cat->input(0)->node();
  cat->destroy();
  list->destroy();
  for (const Group& group : groups) {
    for (const Node* node : {group.linear, group.tokens}) {
      context.report_operator(context.module_of(node->output(0)), "repquant::grouped_linear");
    }
    context.drop(group.linear);
    context.drop(group.tokens);
    if (!group.narrow->hasUses()) context.drop(group.narrow);
  }
}

}  // namespace

void fuse_groups(FusionContext& context, torch::jit::Graph& graph) {
  for (Node* node : all_nodes(graph)) {
    const std::vector<Group> groups = groups_of(node);
    if (!groups.empty()) join(context, node, groups);
  }
}

}  // namespace repquant
