// Objects that forward() makes itself, such as torch.no_grad(): their attributes are values.
#include <torch/csrc/jit/ir/attributes.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "graph/flatten.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

bool sets(const Node* node, const Value* object) {
  return node->kind() == c10::prim::SetAttr && node->input(0) == object && node->input(1) != object;
}

bool gets(const Node* node, const Value* object) {
  return node->kind() == c10::prim::GetAttr && node->input(0) == object;
}

/// True if what each attribute is can be told from the order of the nodes: nothing but this graph
/// sees the object, and no branch or loop assigns to it.
bool is_plain(const Node* create) {
  const Value* object = create->output();
  return std::all_of(object->uses().begin(), object->uses().end(), [&](const auto& use) {
    return gets(use.user, object) ||
           (sets(use.user, object) && use.user->owningBlock() == create->owningBlock());
  });
}

void read_attributes(Node* node, const Value* object,
                     const std::map<std::string, Value*>& attributes) {
  if (gets(node, object)) {
    const auto found = attributes.find(node->s(c10::attr::name));
    if (found != attributes.end()) node->output()->replaceAllUsesWith(found->second);
  }
  for (Block* block : node->blocks()) {
    for (Node* inner : block->nodes()) read_attributes(inner, object, attributes);
  }
}

/// True if nothing is left of the object.
bool dissolve(Node* create) {
  const Value* object = create->output();
  std::map<std::string, Value*> attributes;
  for (Node* node = create->next(); node != create->owningBlock()->return_node();
       node = node->next()) {
    if (sets(node, object)) attributes[node->s(c10::attr::name)] = node->input(1);
    read_attributes(node, object, attributes);
  }
  std::vector<Node*> users;
  for (const auto& use : object->uses()) users.push_back(use.user);
  const bool all_known = std::all_of(users.begin(), users.end(), [](const Node* user) {
    return user->kind() == c10::prim::SetAttr || user->output()->uses().empty();
  });
  if (!all_known) return false;
  for (Node* user : users) user->destroy();
  create->destroy();
  return true;
}

}  // namespace

void dissolve_local_objects(Graph& graph) {
  for (bool changed = true; changed;) {  // objects may hold others
    changed = false;
    for (Node* node : all_nodes(graph)) {
      if (node->kind() != c10::prim::CreateObject || !is_plain(node)) continue;
      changed = dissolve(node);
      if (changed) break;
    }
  }
  // No gradients are wanted, whatever the model says of them.
  for (Node* node : all_nodes(graph)) {
    if (is_kind(node, "aten::set_grad_enabled")) node->destroy();
  }
}

}  // namespace repquant
