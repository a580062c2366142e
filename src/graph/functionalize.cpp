#include "graph/functionalize.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <map>
#include <optional>
#include <set>
#include <string>

#include "graph/rewrite.h"
#include "graph/site_path.h"
#include "repquant/error.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

// Views that have the elements of their base in the same order.
const std::set<std::string> kReshapes{"aten::view",      "aten::reshape",   "aten::flatten",
                                      "aten::unflatten", "aten::squeeze",   "aten::unsqueeze",
                                      "aten::view_as",   "aten::reshape_as"};
const std::set<std::string> kSame{"aten::contiguous", "aten::detach", "aten::alias"};
const std::set<std::string> kMoves{"aten::transpose", "aten::t", "aten::permute", "aten::swapaxes",
                                   "aten::movedim"};
const std::set<std::string> kParts{"aten::select", "aten::slice", "aten::narrow"};

/// The tensor that `value` is a view of; null if it is none.
Value* base_of(const Value* value) {
  Node* node = const_cast<Node*>(value->node());
  const std::string kind = kind_name(node);
  if (kind == "prim::ListUnpack") {
    Node* list = node->input(0)->node();
    return gives_parts(list) ? list->input(0) : nullptr;
  }
  const bool view = kReshapes.count(kind) > 0 || kSame.count(kind) > 0 || kMoves.count(kind) > 0 ||
                    kParts.count(kind) > 0 || kind == "aten::expand";
  return view ? node->input(0) : nullptr;
}

Value* root_of(Value* value) {
  while (Value* base = base_of(value)) value = base;
  return value;
}

/// True for an operator that writes into its first operand.
bool writes_first(const Node* node) {
  const auto* schema = node->maybeSchema();
  if (schema == nullptr || schema->arguments().empty() || node->outputs().size() != 1) return false;
  const auto* alias = schema->arguments()[0].alias_info();
  return alias != nullptr && alias->isWrite() && kind_name(node).ends_with('_') &&
         node->input(0)->type()->isSubtypeOf(*c10::TensorType::get());
}

[[noreturn]] void refuse(const Node* node, const std::string& what, const std::string& hint) {
  throw Error(ErrorKind::kUnsupported, {.what = what, .where = describe_node(node), .hint = hint});
}

class Write {
 public:
  explicit Write(Node* node) : node_(node), graph_(*node->owningGraph()) {}

  void rewrite() {
    Value* target = node_->input(0);
    Value* root = root_of(target);
    new_[target] = functional();
    Value* value = target;
    for (Value* base = base_of(value); base != nullptr; base = base_of(value)) {
      new_[base] = put_back(value, base, new_.at(value));
      value = base;
    }
    node_->output()->replaceAllUsesWith(new_.at(target));
    for (Value* alias : aliases(root)) {
      const std::vector<torch::jit::Use> uses = alias->uses();
      for (const auto& use : uses) {
        if (use.user != node_ && use.user->isAfter(node_)) {
          use.user->replaceInput(use.offset, renewed(alias));
        }
      }
    }
    node_->destroy();
  }

 private:
  Value* create(const std::string& kind, const std::vector<Value*>& inputs) {
    Node* node = graph_.create(c10::Symbol::fromQualString(kind), inputs);
    node->insertBefore(node_)->copyMetadata(node_);
    return node->output();
  }

  Value* number(std::int64_t value) {
    torch::jit::WithInsertPoint guard(node_);
    return graph_.insertConstant(value);
  }

  /// What the operator would have left in its first operand.
  Value* functional() {
    std::vector<Value*> inputs(node_->inputs().begin(), node_->inputs().end());
    std::string kind = kind_name(node_);
    kind.pop_back();
    if (kind == "aten::zero") return create("aten::zeros_like", like(inputs[0]));
    if (kind == "aten::copy") {
      if (inputs[1]->type()->isSubtypeOf(*c10::TensorType::get())) {
        Value* typed = create("aten::type_as", {inputs[1], inputs[0]});
        return create("aten::expand_as", {typed, inputs[0]});
      }
      inputs.resize(2);
      kind = "aten::fill";
    }
    Value* result = create(kind, inputs);
    if (result->node()->maybeOperator() == nullptr) {
      refuse(node_, "the model uses an in-place operator without a form that gives a new tensor",
             "write it as an assignment to a new tensor");
    }
    return result;
  }

  std::vector<Value*> like(Value* tensor) {
    torch::jit::WithInsertPoint guard(node_);
    std::vector<Value*> inputs{tensor};
    for (int i = 0; i < 5; ++i) inputs.push_back(graph_.insertConstant(c10::IValue()));
    return inputs;
  }

  /// The base with `part` in place of its view `view`.
  Value* put_back(const Value* view, Value* base, Value* part) {
    Node* node = const_cast<Node*>(view->node());
    const std::string kind = kind_name(node);
    if (kSame.count(kind) > 0) return part;
    if (kReshapes.count(kind) > 0) return create("aten::reshape_as", {part, base});
    if (kind == "aten::select") {
      return create("aten::select_scatter", {base, part, node->input(1), node->input(2)});
    }
    if (kind == "aten::slice") {
      return create("aten::slice_scatter",
                    {base, part, node->input(1), node->input(2), node->input(3), node->input(4)});
    }
    if (kind == "aten::narrow" && node->input(2)->type()->isSubtypeOf(*c10::IntType::get())) {
      Value* end = create("aten::add", {node->input(2), node->input(3)});
      end->setType(c10::IntType::get());
      return create("aten::slice_scatter",
                    {base, part, node->input(1), node->input(2), end, number(1)});
    }
    if (kind == "aten::transpose" || kind == "aten::swapaxes") {
      return create(kind, {part, node->input(1), node->input(2)});
    }
    if (kind == "aten::t") return create(kind, {part});
    if (kind == "aten::movedim") return create(kind, {part, node->input(2), node->input(1)});
    if (kind == "aten::permute") return permuted_back(node, part);
    if (kind == "prim::ListUnpack" && is_kind(node->input(0)->node(), "aten::unbind")) {
      return create("aten::select_scatter", {base, part, node->input(0)->node()->input(1),
                                             number(static_cast<std::int64_t>(view->offset()))});
    }
    refuse(node_, "the model assigns to a part of a tensor that " + kind + " gives",
           "assign to a slice of the tensor itself");
  }

  Value* permuted_back(const Node* node, Value* part) {
    const auto constant = torch::jit::toIValue(node->input(1));
    if (!constant || !constant->isIntList()) {
      refuse(node_, "the model assigns to a part of a tensor in an order that is not constant",
             "assign to a slice of the tensor itself");
    }
    const auto order = constant->toIntVector();
    const auto n = static_cast<std::int64_t>(order.size());
    std::vector<std::int64_t> back(order.size());
    for (std::int64_t i = 0; i < n; ++i) {
      const auto d = order[static_cast<std::size_t>(i)];
      back[static_cast<std::size_t>(d < 0 ? d + n : d)] = i;
    }
    torch::jit::WithInsertPoint guard(node_);
    Value* list = graph_.insertConstant(c10::IValue(back));
    return create("aten::permute", {part, list});
  }

  /// The root and all its views that are computed before the write.
  std::vector<Value*> aliases(Value* root) const {
    std::vector<Value*> found{root};
    for (Node* node : node_->owningBlock()->nodes()) {
      if (node == node_) break;
      for (Value* output : node->outputs()) {
        if (output != root && base_of(output) != nullptr && root_of(output) == root) {
          found.push_back(output);
        }
      }
    }
    return found;
  }

  /// A view of the new root in place of one of the old root.
  Value* renewed(Value* alias) {
    const auto known = new_.find(alias);
    if (known != new_.end()) return known->second;
    Value* base = renewed(base_of(alias));
    Node* view = alias->node();
    const bool unpacked = view->kind() == c10::prim::ListUnpack;
    Node* first = unpacked ? view->input(0)->node() : view;
    const auto copy = [&](Node* node, Value* input) {
      Node* copied = graph_.createClone(
          node, [&](Value* value) { return value == node->input(0) ? input : value; });
      copied->insertBefore(node_);
      return copied;
    };
    Node* renewed_view = copy(first, base);
    if (unpacked) renewed_view = copy(view, renewed_view->output());
    for (std::size_t i = 0; i < view->outputs().size(); ++i) {
      new_[view->outputs()[i]] = renewed_view->outputs()[i];
    }
    return new_.at(alias);
  }

  Node* node_;
  Graph& graph_;
  std::map<Value*, Value*> new_;  // in place of the tensor and its views
};

}  // namespace

void refuse_written_state(Graph& graph) {
  for (Node* node : all_nodes(graph)) {
    if (!writes_first(node)) continue;
    const Value* root = root_of(node->input(0));
    if (root->node()->kind() != c10::prim::Constant) continue;
    std::string name = root->debugName();
    if (name.starts_with("self.")) name = name.substr(5);
    refuse(node, "the model keeps state: forward() writes into its attribute " + name,
           "export it with the state as an input and an output");
  }
}

bool functionalize(std::shared_ptr<Graph>& graph) {
  std::vector<Node*> writes;
  for (Node* node : graph->nodes()) {
    if (writes_first(node)) writes.push_back(node);
  }
  for (Node* node : writes) Write(node).rewrite();
  return !writes.empty();
}

}  // namespace repquant
