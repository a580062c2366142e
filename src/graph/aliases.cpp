#include "graph/aliases.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "graph/normalize.h"
#include "graph/rewrite.h"
#include "graph/sizes.h"

namespace repquant {
namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

/// The same value under another type.
const std::set<std::string> kCasts{"prim::unchecked_cast", "prim::unchecked_unwrap_optional",
                                   "aten::_unwrap_optional"};
const std::set<std::string> kConstructs{"prim::ListConstruct", "prim::TupleConstruct",
                                        "prim::DictConstruct"};
/// Elements of a container, or another container with the same elements.
const std::set<std::string> kContainerReads{
    "aten::__getitem__", "aten::get",        "prim::ListUnpack", "prim::TupleUnpack",
    "prim::TupleIndex",  "prim::TupleSlice", "aten::slice",      "aten::add",
    "aten::mul",         "aten::list",       "aten::copy",       "aten::values",
    "aten::items"};
/// What the schema calls a view and mostly is none: a copy of another type.
const std::set<std::string> kCopies{"aten::to"};

/// Copies where the elements of the operand do not lie in order.
const std::set<std::string> kOrder{"aten::contiguous", "aten::reshape", "aten::reshape_as",
                                   "aten::flatten", "aten::ravel"};
/// Views whose elements lie in another order than in the tensor itself, or several times,
/// dimensions of one place aside.
const std::set<std::string> kTurns{"aten::transpose", "aten::permute",  "aten::t",
                                   "aten::mT",        "aten::numpy_T",  "aten::movedim",
                                   "aten::moveaxis",  "aten::swapaxes", "aten::swapdims",
                                   "aten::expand",    "aten::expand_as"};
/// Views of some elements that lie apart, whatever their arguments are.
const std::set<std::string> kApart{"aten::diagonal", "aten::unfold", "aten::real", "aten::imag",
                                   "aten::as_strided"};
/// New tensors whose elements lie as those of the operand do.
const std::set<std::string> kSameOrder{"aten::relu", "aten::gelu",    "aten::silu",  "aten::neg",
                                       "aten::tanh", "aten::sigmoid", "aten::clone", "aten::exp"};

/// What gives some places of one dimension: a slice, or the split that `node` reads a part of; null
/// for other nodes.
const Node* cut_of(const Node* node) {
  const bool part = node->kind() == c10::prim::ListUnpack || is_kind(node, "aten::__getitem__");
  const Node* cut = part ? node->input(0)->node() : node;
  const bool cuts = part ? gives_parts(cut)
                         : is_kind(cut, "aten::slice") || is_kind(cut, "aten::narrow") ||
                               is_kind(cut, "aten::select");
  return cuts ? cut : nullptr;
}

/// True for a slice that leaves out places between those that it gives.
bool has_steps(const Node* cut) {
  return is_kind(cut, "aten::slice") && cut->inputs().size() == 5 && !is_one(cut->input(4));
}

/// True for a view of some places of a dimension behind the first one, or of every second: its
/// elements lie apart.
bool is_cut(const Node* node) {
  if (kApart.count(kind_name(node)) > 0) return true;
  const Node* cut = cut_of(node);
  const Value* dimension = cut == nullptr ? nullptr : named_input(cut, "dim");
  if (dimension == nullptr) return false;
  if (has_steps(cut)) return true;
  return constant_int(dimension) != std::optional<std::int64_t>(0) && !is_whole_slice(cut);
}

/// True for a copy that the schema calls a view: of elements that do not lie in order. What is cut
/// may be seen in another shape; whether all else lies in order is known when the model runs.
bool is_copy(const Node* node) {
  const std::string kind = kind_name(node);
  if (kCopies.count(kind) > 0) return true;
  if (kOrder.count(kind) == 0) return false;
  bool made = false;  // of elements that are put side by side, in the order that they had
  for (const Value* from = node->input(0); from != nullptr;) {
    const std::string before = kind_name(from->node());
    if (kTurns.count(before) > 0) return true;
    if (!made && kind == "aten::contiguous" && is_cut(from->node())) return true;
    if (kSameOrder.count(before) > 0) {
      made = true;
      from = from->node()->input(0);
    } else {
      from = base_of(from);
    }
  }
  return false;
}

/// True if the schema says that the first output is, or holds, a view of the first operand.
bool is_view_by_schema(const Node* node) {
  const auto* schema = node->maybeSchema();
  if (schema == nullptr || schema->arguments().empty() || schema->returns().empty()) return false;
  const auto* from = schema->arguments()[0].alias_info();
  const auto* to = schema->returns()[0].alias_info();
  if (from == nullptr || to == nullptr || from->isWrite()) return false;
  return from->beforeSets() == to->beforeSets() &&
         node->input(0)->type()->isSubtypeOf(*c10::TensorType::get());
}

bool is_view(const Node* node) { return is_view_by_schema(node) && !is_copy(node); }

/// The operands whose memory the outputs may share or hold.
std::vector<Value*> carried_operands(const Node* node, Copies copies) {
  const std::string kind = kind_name(node);
  const auto inputs = const_cast<Node*>(node)->inputs();
  if (kConstructs.count(kind) > 0) return inputs.vec();
  if (inputs.empty()) return {};
  const bool view = copies == Copies::kShare ? is_view_by_schema(node) : is_view(node);
  if (kCasts.count(kind) > 0 || view || gives_parts(node) || writes_into(node, 0)) {
    return {inputs[0]};
  }
  if (kContainerReads.count(kind) == 0 || !is_container(inputs[0])) return {};
  return inputs.vec();
}

/// True if `container` holds nothing but what it was made of when `reader` reads it.
bool is_unchanged(const Value* container, const Node* reader) {
  const bool in_order = reader->owningBlock() == container->node()->owningBlock();
  const auto& uses = container->uses();
  return std::none_of(uses.begin(), uses.end(), [&](const auto& use) {
    return writes_into(use.user, use.offset) && (!in_order || use.user->isBefore(reader));
  });
}

bool is_same_constant(const Value* a, const Value* b) {
  const auto one = torch::jit::toIValue(a), other = torch::jit::toIValue(b);
  return one && other && *one == *other;
}

/// The places [first, second) of a dimension that a slice or a select reads, where these are known
/// constants, all counted from one end.
std::optional<std::pair<std::int64_t, std::int64_t>> places_of(const Node* node) {
  if (is_kind(node, "aten::select") && node->inputs().size() == 3) {
    const auto index = constant_int(node->input(2));
    return index ? std::optional(std::pair(*index, *index + 1)) : std::nullopt;
  }
  if (!is_kind(node, "aten::slice") || node->inputs().size() != 5) return {};
  const auto bound = [](const Value* value, std::int64_t none) {
    return value->mustBeNone() ? std::optional(none) : constant_int(value);
  };
  const auto begin = bound(node->input(2), 0);
  const auto end = bound(node->input(3), std::numeric_limits<std::int64_t>::max());
  if (!begin || !end || *begin < 0 || *end < 0) return {};
  return std::pair(*begin, *end);
}

/// Element `index` of what `construct` makes of its operands; null if there is none.
Value* item_of(Node* construct, std::int64_t index) {
  const auto count = static_cast<std::int64_t>(construct->inputs().size());
  if (index < -count || index >= count) return nullptr;
  return construct->input(static_cast<std::size_t>(index < 0 ? index + count : index));
}

/// The element that `value` is, of a container whose elements are known; else null.
Value* element_read(const Value* value) {
  Node* node = const_cast<Node*>(value->node());
  const std::string kind = kind_name(node);
  if (kContainerReads.count(kind) == 0 || node->inputs().empty()) return nullptr;
  Node* made = node->input(0)->node();
  if (kConstructs.count(kind_name(made)) == 0 || !is_unchanged(node->input(0), node))
    return nullptr;
  if (kind == "prim::ListUnpack" || kind == "prim::TupleUnpack") {
    return item_of(made, static_cast<std::int64_t>(value->offset()));
  }
  if (kind != "aten::__getitem__" && kind != "prim::TupleIndex") return nullptr;
  if (made->kind() == c10::prim::DictConstruct) {
    for (std::size_t i = made->inputs().size(); i >= 2; i -= 2) {  // the last of equal keys counts
      if (!torch::jit::toIValue(made->input(i - 2))) return nullptr;
      if (is_same_constant(made->input(i - 2), node->input(1))) return made->input(i - 1);
    }
    return nullptr;
  }
  const auto index = constant_int(node->input(1));
  return index ? item_of(made, *index) : nullptr;
}

}  // namespace

bool is_whole_slice(const Node* node) {
  if (!is_kind(node, "aten::slice") || node->inputs().size() != 5 || has_steps(node)) return false;
  const auto begin = constant_int(node->input(2)), end = constant_int(node->input(3));
  const bool from_first = node->input(2)->mustBeNone() || begin == std::optional<std::int64_t>(0);
  const bool to_last = node->input(3)->mustBeNone() ||
                       end == std::optional(std::numeric_limits<std::int64_t>::max());
  return from_first && to_last && node->input(0)->type()->isSubtypeOf(*c10::TensorType::get());
}

bool is_container(const Value* value) {
  const auto kind = value->type()->kind();
  return kind == c10::TypeKind::ListType || kind == c10::TypeKind::TupleType ||
         kind == c10::TypeKind::DictType;
}

bool writes_into(const Node* node, std::size_t i) {
  const auto* schema = node->maybeSchema();
  if (schema == nullptr || i >= schema->arguments().size()) return false;
  const auto* alias = schema->arguments()[i].alias_info();
  return alias != nullptr && alias->isWrite();
}

Value* base_of(const Value* value) {
  Node* node = const_cast<Node*>(value->node());
  if (Value* element = element_read(value)) return element;
  const std::string kind = kind_name(node);
  if (kind == "prim::ListUnpack" || kind == "aten::__getitem__") {
    Node* list = node->input(0)->node();
    return gives_parts(list) ? list->input(0) : nullptr;
  }
  if (is_container(value) || node->inputs().empty()) return nullptr;
  return kCasts.count(kind) > 0 || is_view(node) ? node->input(0) : nullptr;
}

Value* root_of(Value* value) {
  while (Value* base = base_of(value)) value = base;
  return value;
}

bool gives_copy_or_view(const Node* node) {
  const std::string kind = kind_name(node);
  return (kOrder.count(kind) > 0 || kCopies.count(kind) > 0) && is_view_by_schema(node);
}

Value* copied_by(const Value* value) {
  const Node* node = value->node();
  return is_view_by_schema(node) && is_copy(node) ? const_cast<Node*>(node)->input(0) : nullptr;
}

bool sizes_decide(const Node* node, const Sizes& sizes) {
  const std::string kind = kind_name(node);
  if (kOrder.count(kind) == 0 || kind == "aten::contiguous" || is_copy(node)) return false;
  bool cuts_only = true, found = false;
  std::int64_t front = 0;  // so many dimensions have to stay for a view
  for (const Value* from = node->input(0); from != nullptr; from = base_of(from)) {
    const Node* view = from->node();
    if (is_cut(view)) {
      found = true;
      const Node* cut = cut_of(view);
      const auto dimension =
          cut == nullptr ? std::nullopt : sizes.dimension(named_input(cut, "dim"), cut->input(0));
      if (!dimension || !cuts_only) return true;
      front = std::max(front, *dimension + (has_steps(cut) ? 1 : 0));
    }
    cuts_only = cuts_only && cut_of(view) != nullptr;
  }
  if (!found) return false;
  for (std::int64_t d = 0; d < front; ++d) {
    const auto before = sizes.of(node->input(0), d);
    if (!before || before != sizes.of(node->output(), d)) return true;
  }
  return false;
}

bool are_apart(const Value* a, const Value* b) {
  const Node *one = a->node(), *other = b->node();
  if (one == other) return a != b && one->kind() == c10::prim::ListUnpack;
  if (one->inputs().empty() || other->inputs().empty()) return false;
  if (one->input(0) != other->input(0)) return false;
  if (const auto i = places_of(one), k = places_of(other); i && k) {
    const bool counted_alike = (i->first < 0) == (k->first < 0);
    return counted_alike && is_same_constant(one->input(1), other->input(1)) &&
           (i->second <= k->first || k->second <= i->first);
  }
  if (one->kind() != other->kind()) return false;
  if (one->kind() == c10::prim::ListUnpack) return a->offset() != b->offset();
  if (!is_kind(one, "aten::__getitem__")) return false;
  const auto i = constant_int(one->input(1)), k = constant_int(other->input(1));
  if (i && k) return *i != *k && (*i < 0) == (*k < 0);
  const auto text = constant_text(one->input(1)), key = constant_text(other->input(1));
  return text && key && *text != *key;
}

Sharing::Sharing(Value* root, const Node* before, Reads written, Copies copies)
    : before_(before), written_(std::move(written)), copies_(copies) {
  add(root);
  const Block* block = before->owningBlock();
  // Once more where an element was put into a container that was read before.
  while (look_through(const_cast<Block*>(block))) {
  }
}

bool Sharing::add(Value* value) {
  if (!known_.insert(value).second) return false;
  values_.push_back(value);
  return true;
}

bool Sharing::look_through(Block* block) {
  bool again = false;
  for (Node* node : block->nodes()) {
    if (node == before_) break;
    again = look_at(node) || again;
  }
  return again;
}

/// True if something was found that nodes in front of it may read.
bool Sharing::look_at(Node* node) {
  if (node->kind() == c10::prim::If) return look_at_branches(node);
  if (node->kind() == c10::prim::Loop) return look_at_loop(node);
  const auto inputs = node->inputs();
  const auto is_known = [this](const Value* value) { return has(value); };
  if (!inputs.empty() && is_container(inputs[0]) && writes_into(node, 0)) {
    return std::any_of(inputs.begin() + 1, inputs.end(), is_known) && add(inputs[0]);
  }
  const auto carried = carried_operands(node, copies_);
  if (std::none_of(carried.begin(), carried.end(), is_known)) return false;
  const auto written = written_.find(inputs[0]);
  for (Value* output : node->outputs()) {
    if (written == written_.end() || !are_apart(written->second, output)) add(output);
  }
  return false;
}

bool Sharing::look_at_branches(Node* node) {
  bool again = false;
  for (Block* block : node->blocks()) {
    again = look_through(block) || again;
    for (std::size_t i = 0; i < block->outputs().size(); ++i) {
      if (has(block->outputs()[i])) add(node->output(i));
    }
  }
  return again;
}

bool Sharing::look_at_loop(Node* node) {
  Block* body = node->blocks()[0];
  bool again = false;
  for (std::size_t i = 0; i < node->outputs().size(); ++i) {
    if (has(node->input(i + 2))) add(body->inputs()[i + 1]);
  }
  again = look_through(body);
  for (std::size_t i = 0; i < node->outputs().size(); ++i) {
    if (has(body->outputs()[i + 1])) again = add(body->inputs()[i + 1]) || again;
    if (has(body->inputs()[i + 1])) add(node->output(i));
  }
  return again;
}

}  // namespace repquant
