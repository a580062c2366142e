#include "graph/value_facts.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <set>
#include <string>

#include "graph/normalize.h"
#include "graph/rank.h"
#include "graph/rewrite.h"
#include "graph/site.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Use;
using torch::jit::Value;
using Width = std::optional<std::int64_t>;

constexpr int kFarthest = 16;

/// Results of the width and type of the first operand.
const std::set<std::string> kOfElements{"aten::contiguous",
                                        "aten::gelu",
                                        "aten::relu",
                                        "aten::silu",
                                        "aten::sigmoid",
                                        "aten::tanh",
                                        "aten::neg",
                                        "aten::dropout",
                                        "aten::clone",
                                        "aten::masked_fill",
                                        "aten::_nested_tensor_from_mask",
                                        "aten::to_padded_tensor",
                                        "aten::_transformer_encoder_layer_fwd"};
/// Elements of the first operand, or 0.
const std::set<std::string> kPickKinds{"aten::index", "aten::tril", "aten::triu",
                                       "aten::contiguous"};
const std::set<std::string> kSumKinds{"aten::add", "aten::sub", "aten::mul"};
const std::set<std::string> kNormKinds{"aten::layer_norm", "aten::rms_norm"};
const std::set<std::string> kProductKinds{"aten::linear", "aten::matmul",
                                          "aten::_native_multi_head_attention"};

bool is_one_of(const Node* node, const std::set<std::string>& kinds) {
  return kinds.count(node->kind().toQualString()) > 0;
}

bool gives_tensor(const Value* value) {
  return value->type()->isSubtypeOf(*c10::TensorType::get());
}

/// A dimension argument that is known not to be the last one of `tensor`.
bool is_not_last(const Value* dimension, const Value* tensor) {
  const auto d = dimension_from_end(dimension, tensor);
  return d && *d != -1;
}

/// True for moves and views that leave the last dimension as it is.
bool keeps_width(const Node* node) {
  if (is_one_of(node, kOfElements)) return true;
  if (is_kind(node, "aten::transpose") || is_kind(node, "aten::swapaxes")) {
    return is_not_last(node->input(1), node->input(0)) &&
           is_not_last(node->input(2), node->input(0));
  }
  if (is_kind(node, "aten::slice") || is_kind(node, "aten::select") ||
      is_kind(node, "aten::narrow")) {
    return is_not_last(node->input(1), node->input(0));
  }
  if (gives_parts(node)) {
    const Value* dimension = named_input(node, "dim");
    return dimension != nullptr && is_not_last(dimension, node->input(0));
  }
  return is_kind(node, "prim::ListUnpack") && gives_parts(node->input(0)->node());
}

Width last_of(const Value* list) {
  const auto constant = list == nullptr ? std::nullopt : torch::jit::toIValue(list);
  if (!constant || !constant->isIntList() || constant->toIntVector().empty()) return {};
  return constant->toIntVector().back();
}

Width width_at(const Value* value, int depth);

/// What `use` demands of the width of the value that it reads.
Width width_demanded(const Use& use, int depth) {
  const Node* reader = use.user;
  if (use.offset != 0) return {};
  if (is_one_of(reader, kNormKinds)) return last_of(named_input(reader, "normalized_shape"));
  if (is_kind(reader, "aten::linear")) return width_at(reader->input(1), depth + 1);
  if (!keeps_width(reader) || reader->outputs().size() != 1) return {};
  for (const Use& next : reader->output()->uses()) {
    if (depth > kFarthest || next.user->owningBlock() != reader->owningBlock()) continue;
    if (const Width found = width_demanded(next, depth + 1)) return found;
  }
  return {};
}

/// The width that what computes `value` gives it.
Width width_given(const Value* value, int depth) {
  const Node* node = value->node();
  if (is_one_of(node, kNormKinds)) return last_of(named_input(node, "normalized_shape"));
  if (is_kind(node, "aten::linear")) {
    const at::Tensor weight = constant_tensor(node->input(1));
    return weight.defined() && weight.dim() == 2 ? Width(weight.size(0)) : Width();
  }
  const bool attends = is_kind(node, "aten::_native_multi_head_attention") && value->offset() == 0;
  if (attends || keeps_width(node)) return width_at(node->input(0), depth + 1);
  if (!is_one_of(node, kSumKinds)) return {};
  for (const Value* operand : node->inputs()) {  // the other one has the same width, or 1
    if (!gives_tensor(operand)) continue;
    const Width one = width_at(operand, depth + 1);
    if (one && *one > 1) return one;
  }
  return {};
}

Width width_at(const Value* value, int depth) {
  if (depth > kFarthest) return {};
  if (const at::Tensor t = constant_tensor(value); t.defined()) {
    return t.dim() > 0 ? Width(t.size(-1)) : Width();
  }
  if (const Width found = width_given(value, depth)) return found;
  for (const Use& use : value->uses()) {
    if (use.user->owningBlock() != value->node()->owningBlock()) continue;  // may not run
    if (const Width found = width_demanded(use, depth)) return found;
  }
  return {};
}

/// The type that `node` is told to give; nothing if none is named, or if it hangs on the data.
std::optional<std::int64_t> named_type(const Node* node) {
  const Value* type = node->maybeSchema() ? named_input(node, "dtype") : nullptr;
  return type == nullptr ? std::nullopt : constant_int(type);
}

/// True for a new tensor of floating-point numbers that names no type: float32, the default.
bool makes_floats(const Node* node) {
  if (is_kind(node, "aten::full"))
    return node->input(1)->type()->kind() == c10::TypeKind::FloatType;
  return is_one_of(node, {"aten::zeros", "aten::ones", "aten::empty"});
}

bool is_float32_at(const Value* value, int depth);

/// True if `use` multiplies the value, possibly moved around, by a float32 weight.
bool multiplies_by_float32(const Use& use, int depth) {
  const Node* reader = use.user;
  if (is_one_of(reader, kProductKinds)) {
    for (const Value* other : reader->inputs()) {
      const at::Tensor t = constant_tensor(other);
      if (t.defined() && t.dim() == 2 && t.scalar_type() == at::kFloat) return true;
    }
    return false;
  }
  if (use.offset != 0 || depth > kFarthest || reader->outputs().size() != 1) return false;
  if (!is_shape_only(reader)) return false;
  const auto& uses = reader->output()->uses();
  return std::any_of(uses.begin(), uses.end(),
                     [&](const Use& next) { return multiplies_by_float32(next, depth + 1); });
}

bool is_float32_at(const Value* value, int depth) {
  if (depth > kFarthest) return false;
  if (const at::Tensor t = constant_tensor(value); t.defined()) {
    return t.scalar_type() == at::kFloat;
  }
  const Node* node = value->node();
  const auto of_operand = [&](const Value* operand) { return is_float32_at(operand, depth + 1); };
  if (const auto type = named_type(node)) return *type == static_cast<std::int64_t>(at::kFloat);
  if (makes_floats(node) && named_input(node, "dtype")->mustBeNone()) return true;
  if (node->kind() == c10::prim::If) {
    const auto blocks = node->blocks();
    return std::all_of(blocks.begin(), blocks.end(), [&](const torch::jit::Block* block) {
      return of_operand(block->outputs()[value->offset()]);
    });
  }
  if (is_kind(node, "aten::linear") && of_operand(node->input(1))) return true;
  if (is_kind(node, "aten::matmul") || is_kind(node, "aten::_native_multi_head_attention")) {
    return of_operand(node->input(0));
  }
  if (is_one_of(node, kNormKinds) || is_one_of(node, kOfElements) || is_one_of(node, kPickKinds) ||
      is_shape_only(node)) {
    if (of_operand(node->input(0))) return true;
  } else if (is_one_of(node, kSumKinds) && gives_tensor(node->input(1))) {
    if (of_operand(node->input(0)) && of_operand(node->input(1))) return true;
  }
  return std::any_of(value->uses().begin(), value->uses().end(),
                     [](const Use& use) { return multiplies_by_float32(use, 0); });
}

/// Truth values, whatever they read.
const std::set<std::string> kTruthKinds{
    "aten::eq",         "aten::ne",          "aten::lt",          "aten::le",
    "aten::gt",         "aten::ge",          "aten::logical_not", "aten::logical_and",
    "aten::logical_or", "aten::logical_xor", "aten::isnan",       "aten::isinf"};
/// Truth values if all operands are.
const std::set<std::string> kBitKinds{"aten::__and__",     "aten::__or__",     "aten::__xor__",
                                      "aten::bitwise_and", "aten::bitwise_or", "aten::bitwise_xor",
                                      "aten::bitwise_not"};
bool is_bool_at(const Value* value, int depth) {
  if (depth > kFarthest || !gives_tensor(value)) return false;
  if (const at::Tensor t = constant_tensor(value); t.defined()) return t.scalar_type() == at::kBool;
  const Node* node = value->node();
  if (is_one_of(node, kTruthKinds)) return true;
  if (const auto type = named_type(node)) return *type == static_cast<std::int64_t>(at::kBool);
  const auto of_operand = [&](const Value* operand) { return is_bool_at(operand, depth + 1); };
  if (is_one_of(node, kBitKinds)) {
    return std::all_of(node->inputs().begin(), node->inputs().end(), of_operand);
  }
  return (is_shape_only(node) || is_one_of(node, kPickKinds)) && of_operand(node->input(0));
}

}  // namespace

std::optional<std::int64_t> width_of(const Value* value) { return width_at(value, 0); }

bool is_float32(const Value* value) { return is_float32_at(value, 0); }

bool is_bool(const Value* value) { return is_bool_at(value, 0); }

}  // namespace repquant
