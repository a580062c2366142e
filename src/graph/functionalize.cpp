#include "graph/functionalize.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "graph/aliases.h"
#include "graph/doubtful_write.h"
#include "graph/in_place.h"
#include "graph/normalize.h"
#include "graph/rewrite.h"
#include "graph/site_path.h"
#include "repquant/error.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

// Views that have the elements of their base in the same order.
const std::set<std::string> kReshapes{"aten::view",      "aten::reshape",    "aten::flatten",
                                      "aten::unflatten", "aten::squeeze",    "aten::unsqueeze",
                                      "aten::view_as",   "aten::reshape_as", "aten::ravel"};
const std::set<std::string> kSame{"aten::contiguous",     "aten::detach",
                                  "aten::alias",          "aten::_unwrap_optional",
                                  "aten::__getitem__",    "prim::ListUnpack",
                                  "prim::TupleUnpack",    "prim::TupleIndex",
                                  "prim::unchecked_cast", "prim::unchecked_unwrap_optional"};
/// Give a tensor another shape where it stands, which is a view of itself.
const std::set<std::string> kTurned{"aten::transpose_", "aten::t_",         "aten::swapaxes_",
                                    "aten::swapdims_",  "aten::unsqueeze_", "aten::squeeze_"};
constexpr const char* kRemedy = "write it as an assignment to a new tensor, such as x = x + y";

[[noreturn]] void refuse(const Node* node, const std::string& what, const std::string& hint) {
  throw Error(ErrorKind::kUnsupported, {.what = what, .where = describe_node(node), .hint = hint});
}

/// The reads of tensors, or of their parts, that lead from the root to `target`.
Reads reads_of(const Value* target) {
  Reads reads;
  for (const Value* value = target; base_of(value) != nullptr; value = base_of(value)) {
    const Value* from = value->node()->input(0);
    if (!is_container(from) || gives_parts(from->node())) reads[from] = value;
  }
  return reads;
}

/// The tensor that a later write changes, if nothing else is written to before.
const Value* written_root(Value* value) {
  while (true) {
    if (Value* base = base_of(value)) {
      value = base;
    } else if (writes_first(value->node())) {
      value = value->node()->input(0);
    } else {
      return value;
    }
  }
}

class Write {
 public:
  Write(Node* node, const std::vector<Node*>& writes)
      : node_(node),
        graph_(*node->owningGraph()),
        target_(node->input(0)),
        root_(root_of(target_)),
        reads_(reads_of(target_)),
        sharing_(root_, node, reads_) {
    if (is_written_later(writes) && is_read_elsewhere()) through_root_ = true;
    if (through_root_) sharing_ = Sharing(root_, node, {});
  }

  void rewrite() {
    refuse_unknown_source();
    Value* result = functional();
    if (through_root_) {
      Value* value = target_;
      for (Value* base = base_of(value); base != nullptr; base = base_of(value)) {
        result = put_back(value, base, result);
        value = base;
      }
      new_[root_] = result;
    } else {
      new_[target_] = result;
      Value* value = target_;
      for (Value* base = base_of(value); base != nullptr; base = base_of(value)) {
        view_[base] = value;
        value = base;
      }
    }
    node_->output()->replaceAllUsesWith(renewed(target_));
    for (Value* alias : sharing_.values()) {
      const std::vector<torch::jit::Use> uses = alias->uses();
      for (const auto& use : uses) {
        if (is_later(use)) use.user->replaceInput(use.offset, renewed(alias));
      }
    }
    node_->destroy();
  }

 private:
  bool is_written_later(const std::vector<Node*>& writes) const {
    return std::any_of(writes.begin(), writes.end(), [&](const Node* other) {
      return other->isAfter(node_) &&
             written_root(const_cast<Node*>(other)->input(0)) == static_cast<const Value*>(root_);
    });
  }

  /// True if a later node reads what is written through something else than the target.
  bool is_read_elsewhere() const {
    const Sharing of_target(target_, node_, {});
    const auto& all = sharing_.values();
    return std::any_of(all.begin(), all.end(), [&](const Value* value) {
      const auto& uses = value->uses();
      return !of_target.has(value) &&
             std::any_of(uses.begin(), uses.end(), [&](const auto& use) { return is_later(use); });
    });
  }

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
    const std::string kind = functional_kind(node_);
    if (kind == "aten::zero") return create("aten::zeros_like", like(inputs[0]));
    if (kind == "aten::copy") {
      if (inputs[1]->type()->isSubtypeOf(*c10::TensorType::get())) {
        Value* typed = create("aten::type_as", {inputs[1], inputs[0]});
        return create("aten::expand_as", {typed, inputs[0]});
      }
      inputs.resize(2);
      return create("aten::fill", inputs);
    }
    Value* result = create(kind, inputs);
    if (result->node()->maybeOperator() == nullptr) {
      refuse(node_, "the model uses an in-place operator without a form that gives a new tensor",
             "write it as an assignment to a new tensor");
    }
    return keeps_type_in_place(node_) ? result : create("aten::type_as", {result, inputs[0]});
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
    if (is_part(view)) return joined(view, part);
    if (kSame.count(kind) > 0) return part;
    if (kReshapes.count(kind) > 0 && !is_other_type(node))
      return create("aten::reshape_as", {part, base});
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
    if (kind == "aten::transpose" || kind == "aten::swapaxes" || kind == "aten::swapdims") {
      return create(kind, {part, node->input(1), node->input(2)});
    }
    if (kind == "aten::t" || kind == "aten::mT" || kind == "aten::numpy_T") {
      return create(kind, {part});
    }
    if (kind == "aten::movedim" || kind == "aten::moveaxis")
      return create(kind, {part, node->input(2), node->input(1)});
    if (kind == "aten::permute") return permuted_back(node, part);
    if (kind == "aten::diagonal") {
      return create("aten::diagonal_scatter",
                    {base, part, node->input(1), node->input(2), node->input(3)});
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

  bool is_later(const torch::jit::Use& use) const {
    return use.user != node_ && use.user->isAfter(node_);
  }

  /// The new value in place of one that shares memory with what was written.
  Value* renewed(Value* alias) {
    const auto known = new_.find(alias);
    if (known != new_.end()) return known->second;
    if (const auto view = view_.find(alias); view != view_.end()) {
      return new_[alias] = put_back(view->second, alias, renewed(view->second));
    }
    Node* node = alias->node();
    if (node->owningBlock() != node_->owningBlock()) fail_to_renew(node);
    if (node->kind() == c10::prim::If) return renewed_branches(node, alias);
    if (!node->blocks().empty() || node->kind() == c10::prim::Param) fail_to_renew(node);
    if (is_container(alias) && is_changed(alias)) return refilled(alias);
    Node* copy = graph_.createClone(node, [&](Value* value) { return now(value); });
    copy->insertBefore(node_);
    for (std::size_t i = 0; i < node->outputs().size(); ++i) {
      new_.emplace(node->output(i), copy->output(i));
    }
    return new_.at(alias);
  }

  Value* now(Value* value) { return sharing_.has(value) ? renewed(value) : value; }

  /// The branch that gave the tensor gives the new one, the other what it gave before.
  Value* renewed_branches(Node* node, Value* alias) {
    Node* branches = graph_.create(c10::prim::If, {node->input(0)}, 1);
    for (torch::jit::Block* block : node->blocks()) {
      Value* given = block->outputs()[alias->offset()];
      branches->addBlock()->registerOutput(sharing_.has(given) ? renewed(given) : alias);
    }
    branches->output()->setType(alias->type());
    branches->insertBefore(node_)->copyMetadata(node);
    return new_[alias] = branches->output();
  }

  bool is_changed(const Value* container) const {
    const auto& uses = container->uses();
    return std::any_of(uses.begin(), uses.end(), [&](const auto& use) {
      return writes_into(use.user, use.offset) && use.user->isBefore(node_);
    });
  }

  struct Item {
    Value* key = nullptr;  // of a dict
    Value* value = nullptr;
  };

  /// What a container holds that is filled step by step.
  std::vector<Item> items_of(Value* container) {
    Node* made = container->node();
    std::vector<Item> items;
    const bool dict = made->kind() == c10::prim::DictConstruct;
    if (!dict && made->kind() != c10::prim::ListConstruct) fail_to_renew(made);
    const auto put = [&](Node* node, Value* key, Value* value) {
      const auto name = torch::jit::toIValue(key);
      if (!name) fail_to_renew(node);
      const auto same = [&](const Item& item) { return *torch::jit::toIValue(item.key) == *name; };
      std::erase_if(items, same);
      items.push_back({key, value});
    };
    for (std::size_t i = 0; i < made->inputs().size(); i += dict ? 2 : 1) {
      dict ? put(made, made->input(i), made->input(i + 1))
           : items.push_back({nullptr, made->input(i)});
    }
    for (Node* node = made->next(); node != node_; node = node->next()) {
      if (node->inputs().empty() || node->input(0) != container || !writes_into(node, 0)) continue;
      const bool sets = is_kind(node, "aten::_set_item");
      const auto index = sets && !dict ? constant_int(node->input(1)) : std::nullopt;
      if (sets && dict) {
        put(node, node->input(1), node->input(2));
      } else if (index && *index >= 0 && *index < std::ssize(items)) {
        items[static_cast<std::size_t>(*index)].value = node->input(2);
      } else if (is_kind(node, "aten::append")) {
        items.push_back({nullptr, node->input(1)});
      } else {
        fail_to_renew(node);
      }
    }
    for (const auto& use : container->uses()) {  // in a branch or a loop
      if (!writes_into(use.user, use.offset) || !use.user->isBefore(node_)) continue;
      if (use.user->owningBlock() != node_->owningBlock()) fail_to_renew(use.user);
    }
    return items;
  }

  /// A list or a dict that was filled step by step stays; it gets the new tensors.
  Value* refilled(Value* container) {
    const std::vector<Item> items = items_of(container);
    new_[container] = container;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (!sharing_.has(items[i].value)) continue;
      const bool dict = items[i].key != nullptr;
      Value* key = dict ? items[i].key : number(static_cast<std::int64_t>(i));
      Node* set = graph_.create(c10::Symbol::fromQualString("aten::_set_item"),
                                {container, key, renewed(items[i].value)}, dict ? 0 : 1);
      if (!dict) set->output()->setType(container->type());
      set->insertBefore(node_)->copyMetadata(node_);
    }
    return container;
  }

  [[noreturn]] void fail_to_renew(const Node* holder) const {
    refuse(node_,
           "the model changes a tensor in place that " + kind_name(holder) +
               " holds or gives, too, and reads that later",
           kRemedy);
  }

  /// A tensor that comes out of a branch, a loop, or a container of unknown elements: what it was
  /// before may not be read later.
  void refuse_unknown_source() {
    const Value* root = root_;
    Node* node = root_->node();
    if (node->kind() == c10::prim::If) {
      for (torch::jit::Block* block : node->blocks()) {
        refuse_if_read_later(root_of(block->outputs()[root->offset()]), root);
      }
    } else if (node->kind() == c10::prim::Loop) {
      refuse_if_read_later(root_of(node->input(root->offset() + 2)), root);
      refuse_if_read_later(root_of(node->blocks()[0]->outputs()[root->offset() + 1]), root);
    } else if (!node->inputs().empty() && is_container(node->input(0)) &&
               node->kind() != c10::prim::Param) {
      const std::string kind = kind_name(node);
      if (kSame.count(kind) > 0 || kind == "aten::get") refuse_if_read_later(node->input(0), root);
    }
  }

  void refuse_if_read_later(Value* source, const Value* root) {
    if (source->node()->kind() == c10::prim::Constant) return;
    const Reads reads{{source, root}};
    const Sharing sharing(source, node_, reads);
    for (const Value* value : sharing.values()) {
      if (sharing_.has(value)) continue;
      for (const auto& use : value->uses()) {
        const auto& given = use.user->outputs();
        const bool apart = value == source && given.size() == 1 && are_apart(given[0], root);
        if (is_later(use) && !apart) fail_to_renew(root->node());
      }
    }
  }

  /// True for one of the tensors that split, chunk or unbind gives.
  static bool is_part(const Value* view) {
    const Node* node = view->node();
    const bool read = node->kind() == c10::prim::ListUnpack || is_kind(node, "aten::__getitem__");
    return read && gives_parts(node->input(0)->node());
  }

  /// x.view(dtype)
  static bool is_other_type(const Node* node) {
    return is_kind(node, "aten::view") && node->input(1)->type()->kind() == c10::TypeKind::IntType;
  }

  /// The tensor whose parts are those of `view`'s list, with `part` in place of `view`.
  Value* joined(const Value* view, Value* part) {
    Node* read = const_cast<Node*>(view->node());
    Node* list = read->input(0)->node();
    const bool unpacked = read->kind() == c10::prim::ListUnpack;
    const auto index = unpacked ? std::optional(static_cast<std::int64_t>(view->offset()))
                                : constant_int(read->input(1));
    if (!index) {
      refuse(node_, "the model changes a part in place that is known only when it runs", kRemedy);
    }
    if (is_kind(list, "aten::unbind")) {
      return create("aten::select_scatter", {list->input(0), part, list->input(1), number(*index)});
    }
    Value* dim = named_input(list, "dim");
    if (dim == nullptr) fail_to_renew(list);
    if (unpacked) {
      std::vector<Value*> parts = read->outputs().vec();
      parts[static_cast<std::size_t>(*index)] = part;
      Node* all = graph_.createList(c10::TensorType::get(), parts);
      all->insertBefore(node_);
      return create("aten::cat", {all->output(), dim});
    }
    static const auto body = compile_function(R"(
def joined(parts: List[Tensor], index: int, part: Tensor, dim: int) -> Tensor:
    if index < 0:
        index = index + len(parts)
    return torch.cat(parts[:index] + [part] + parts[index + 1:], dim)
)",
                                              "joined");
    torch::jit::WithInsertPoint guard(node_);
    return torch::jit::insertGraph(graph_, *body, {list->output(), number(*index), part, dim})
        .at(0);
  }

  Node* node_;
  Graph& graph_;
  Value* target_;
  Value* root_;
  Reads reads_;  // from the root to the target
  Sharing sharing_;
  /// The target's later readers read it from the root: another write may change that.
  bool through_root_ = false;
  std::map<Value*, Value*> view_;  // of a tensor: the view of it through which is written
  std::map<Value*, Value*> new_;   // in place of the tensor, its views and what holds them
};

/// x.transpose_(0, 1) -> a view that later nodes read in the place of x. The elements stay, and
/// with them all other views.
void turn(Node* node) {
  Value* x = node->input(0);
  const std::vector<torch::jit::Use> uses = x->uses();
  for (const auto& use : uses) {
    const bool holds = use.user->kind() == c10::prim::ListConstruct ||
                       use.user->kind() == c10::prim::TupleConstruct ||
                       use.user->kind() == c10::prim::DictConstruct ||
                       is_kind(use.user, "aten::append");
    if (holds && use.user->isBefore(node)) {
      refuse(node, "the model changes the shape of a tensor that " + kind_name(use.user) + " holds",
             kRemedy);
    }
  }
  Node* view = node->replaceWithNewSymbol(c10::Symbol::fromQualString(functional_kind(node)));
  view->copyMetadata(node);
  node->destroy();
  for (const auto& use : uses) {
    if (use.user != node && use.user->isAfter(view))
      use.user->replaceInput(use.offset, view->output());
  }
}

/// x[:] -> x, so that x[:, 0] and x[:, 1:] are seen to be parts of one tensor. Not where a tensor
/// is turned in place: x[:] would keep its shape.
void drop_whole_slices(Graph& graph) {
  for (Node* node : all_nodes(graph)) {
    if (!is_whole_slice(node)) continue;
    node->output()->replaceAllUsesWith(node->input(0));
    node->destroy();
  }
}

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

bool functionalize(std::shared_ptr<Graph>& graph, std::optional<Error>* doubt) {
  std::vector<Node*> writes;
  bool changed = false, turned = false;
  for (Node* node : all_nodes(*graph)) {
    const bool turns = kTurned.count(kind_name(node)) > 0;
    turned = turned || turns;
    if (turns && node->owningBlock() == graph->block()) {
      turn(node);
      changed = true;
    } else if (writes_first(node)) {
      writes.push_back(node);
    }
  }
  if (!writes.empty() && !turned) drop_whole_slices(*graph);
  while (!writes.empty()) {
    Node* node = writes.front();
    writes.erase(writes.begin());
    if (node->owningBlock() != graph->block()) continue;
    const std::optional<Error> found = doubt_of(node, reads_of(node->input(0)));
    if (!*doubt) *doubt = found;
    Write(node, writes).rewrite();
    changed = true;
  }
  return changed;
}

}  // namespace repquant
