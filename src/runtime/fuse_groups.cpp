// Linears of equal groups of channels, side by side, and what makes their codes -> one operator: a
// convolution in many small groups is more calls than work.
#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "graph/rewrite.h"
#include "ops/kernels/pack.h"
#include "runtime/fuse.h"

namespace repquant {
namespace {

using torch::jit::NamedValue;
using torch::jit::Node;
using torch::jit::Value;

// Inputs of repquant::linear and repquant::token_quantize.
enum LinearInput : std::size_t {
  kCodes = 0,
  kWeight = 1,
  kCompensation = 2,
  kScale = 3,
  kBias = 4,
  kResidual = 7,
  kChannels = 8,
  kColumns = 9,
  kBits = 10,
  kActivation = 11,
  kOutput = 12,
  kRows = 16,
  kSums = 17,
};
enum TokenInput : std::size_t { kX = 0, kTop = 1, kLevels = 2, kMultiplier = 3, kOffset = 4 };

bool is_none(const Value* value) { return value->type()->kind() == c10::TypeKind::NoneType; }

/// One group: x -> narrow -> token_quantize -> linear.
struct Group {
  Node *narrow = nullptr, *tokens = nullptr, *linear = nullptr;

  std::optional<std::int64_t> number(LinearInput input) const {
    return constant_int(linear->input(input));
  }
  std::optional<std::int64_t> top() const { return constant_int(tokens->input(kTop)); }
  bool has(TokenInput input) const { return !is_none(tokens->input(input)); }
};

std::optional<Group> group_of(Value* part, const Value* list) {
  Group group{.linear = part->node()};
  if (!is_kind(group.linear, "repquant::linear") || part->uses().size() != 1 ||
      part->uses()[0].user != list->node() || !is_none(group.linear->input(kResidual)) ||
      group.number(kOutput) != 0 || is_none(group.linear->input(kRows))) {
    return {};
  }
  group.tokens = group.linear->input(kCodes)->node();
  if (!is_kind(group.tokens, "repquant::token_quantize") ||
      group.linear->input(kRows)->node() != group.tokens ||
      group.tokens->output(0)->uses().size() != 1 || group.tokens->output(1)->uses().size() != 1) {
    return {};
  }
  group.narrow = group.tokens->input(kX)->node();
  if (!is_kind(group.narrow, "aten::narrow") || constant_int(group.narrow->input(1)) != -1) {
    return {};
  }
  return group;
}

/// True if the groups are alike, and together all of one value's channels in their order.
bool are_alike(const std::vector<Group>& groups) {
  const Group& first = groups.front();
  const auto columns = first.number(kColumns), bits = first.number(kBits);
  if (!columns || !bits || !first.top() ||
      4 * ops::packed_groups(*columns, *bits <= 4) != *columns) {
    return false;
  }
  std::int64_t begin = 0;
  for (const Group& group : groups) {
    for (const auto input : {kChannels, kColumns, kBits, kActivation}) {
      if (group.number(input) != first.number(input)) return false;
    }
    if (group.narrow->input(0) != first.narrow->input(0) || group.top() != first.top() ||
        group.has(kLevels) != first.has(kLevels) || constant_int(group.narrow->input(2)) != begin ||
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
at::Tensor stacked(const std::vector<Group>& groups, LinearInput input) {
  std::vector<at::Tensor> parts;
  for (const Group& group : groups) parts.push_back(constant_tensor(group.linear->input(input)));
  return at::stack(parts);
}

/// Of the channels before they become codes; none if no group has such a factor or summand, and
/// `neutral` where others have.
c10::IValue joined(const std::vector<Group>& groups, TokenInput input, double neutral) {
  const auto has = [&](const Group& group) { return group.has(input); };
  if (std::none_of(groups.begin(), groups.end(), has)) return {};
  const std::int64_t columns = *groups.front().number(kColumns);
  std::vector<at::Tensor> parts;
  for (const Group& group : groups) {
    parts.push_back(has(group) ? constant_tensor(group.tokens->input(input))
                               : at::full({columns}, neutral, at::kFloat));
  }
  return at::cat(parts);
}

Value* levels_of(const std::vector<Group>& groups, Node* before) {
  torch::jit::WithInsertPoint guard(before);
  std::vector<Value*> levels;
  for (const Group& group : groups) {
    if (group.has(kLevels)) levels.push_back(group.tokens->input(kLevels));
  }
  torch::jit::Graph& graph = *before->owningGraph();
  return graph.insertNode(graph.createList(c10::TensorType::get(), levels))->output();
}

void join(FusionContext& context, Node* cat, const std::vector<Group>& groups) {
  const Group& first = groups.front();
  const std::string module = context.module_of(first.linear->output());
  c10::IValue multiplier = joined(groups, kMultiplier, 1.0);
  const c10::IValue offset = joined(groups, kOffset, 0.0);
  if (multiplier.isNone() && !offset.isNone()) multiplier = at::ones_like(offset.toTensor());
  Value* y = insert_operator(
      cat, "repquant::grouped_linear",
      {first.narrow->input(0), stacked(groups, kWeight), stacked(groups, kCompensation),
       stacked(groups, kScale), stacked(groups, kBias), stacked(groups, kSums),
       *first.number(kChannels), *first.number(kColumns), *first.number(kBits),
       *first.number(kActivation), *first.top(), levels_of(groups, cat), multiplier, offset});
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
