// Reshapes and permutations one after the other -> one operator, which copies once where they copy
// several times (windows of tokens, channels in groups) and into memory that earlier outputs left.
#include <algorithm>
#include <optional>
#include <set>
#include <vector>

#include "graph/rewrite.h"
#include "ops/operators.h"
#include "runtime/fuse.h"

namespace repquant {
namespace {

using torch::jit::NamedValue;
using torch::jit::Node;
using torch::jit::Value;

/// Steps as repquant::rearrange takes them.
struct Steps {
  std::vector<NamedValue> sizes{};
  std::vector<std::int64_t> steps{};
  bool reshapes = false, permutes = false;
};

/// The numbers of a list, one by one.
std::optional<std::vector<NamedValue>> numbers_of(Value* list) {
  if (list->node()->kind() == c10::prim::ListConstruct) {
    return std::vector<NamedValue>(list->node()->inputs().begin(), list->node()->inputs().end());
  }
  const auto constants = constant_ints(list);
  if (!constants) return {};
  return std::vector<NamedValue>(constants->begin(), constants->end());
}

void add_permutation(Steps& to, std::int64_t kind, const std::vector<std::int64_t>& dims) {
  to.steps.insert(to.steps.end(), {kind, static_cast<std::int64_t>(dims.size())});
  to.steps.insert(to.steps.end(), dims.begin(), dims.end());
  to.permutes = true;
}

/// Appends the step that a node is; false for other nodes.
bool add_step(const Node* node, Steps& to) {
  if (is_kind(node, "aten::contiguous")) return constant_int(node->input(1)) == 0;
  if (is_kind(node, "aten::reshape") || is_kind(node, "aten::view")) {
    if (node->input(1)->type()->kind() != c10::TypeKind::ListType) return false;
    const auto sizes = numbers_of(node->input(1));
    if (!sizes) return false;
    to.sizes.insert(to.sizes.end(), sizes->begin(), sizes->end());
    to.steps.insert(to.steps.end(), {ops::kReshapeStep, static_cast<std::int64_t>(sizes->size())});
    to.reshapes = true;
    return true;
  }
  if (is_kind(node, "aten::permute")) {
    const auto order = constant_ints(node->input(1));
    if (order) add_permutation(to, ops::kPermuteStep, *order);
    return order.has_value();
  }
  if (is_kind(node, "aten::transpose")) {
    const auto a = constant_int(node->input(1)), b = constant_int(node->input(2));
    if (a && b) add_permutation(to, ops::kTransposeStep, {*a, *b});
    return a && b;
  }
  return false;
}

bool is_step(const Node* node) {
  Steps ignored;
  return add_step(node, ignored);
}

/// The nodes of which each alone reads the one before, the last one `last`. What stands for a value
/// of the portable form stays a value.
std::vector<Node*> chain_to(const FusionContext& context, Node* last) {
  std::vector<Node*> chain;
  Node* node = last;
  while (is_step(node)) {
    chain.push_back(node);
    Value* input = node->input(0);
    if (only_reader(input) != node || context.is_replacement(input)) break;
    node = input->node();
  }
  std::reverse(chain.begin(), chain.end());
  return chain;
}

}  // namespace

void fuse_rearrangements(FusionContext& context, torch::jit::Graph& graph) {
  std::vector<Node*> nodes = all_nodes(graph);
  std::reverse(nodes.begin(), nodes.end());
  std::set<const Node*> taken;
  for (Node* last : nodes) {
    if (taken.count(last) > 0) continue;
    const std::vector<Node*> chain = chain_to(context, last);
    Steps steps;
    for (const Node* node : chain) add_step(node, steps);
    taken.insert(chain.begin(), chain.end());
    if (!steps.reshapes || !steps.permutes) continue;
    torch::jit::WithInsertPoint guard(last);
    std::vector<Value*> sizes;
    for (const NamedValue& size : steps.sizes) sizes.push_back(size.value(graph));
    Node* list = graph.insertNode(graph.createList(c10::IntType::get(), sizes));
    context.improve(last, insert_operator(last, "repquant::rearrange",
                                          {chain.front()->input(0), list->output(), steps.steps}));
    for (auto node = chain.rbegin() + 1; node != chain.rend(); ++node) (*node)->destroy();
  }
}

}  // namespace repquant
