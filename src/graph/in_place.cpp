#include "graph/in_place.h"

#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <set>

#include "graph/aliases.h"
#include "graph/rewrite.h"
#include "graph/value_facts.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// Arithmetic whose result may have another type than its first operand, by other operands.
const std::set<std::string> kPromoting{
    "aten::add",   "aten::sub",  "aten::mul",          "aten::div",       "aten::true_divide",
    "aten::pow",   "aten::fmod", "aten::floor_divide", "aten::remainder", "aten::atan2",
    "aten::hypot", "aten::lerp", "aten::addcmul",      "aten::addcdiv"};
/// What gives truth values.
const std::set<std::string> kTruth{
    "aten::eq", "aten::ne",          "aten::lt",          "aten::le",         "aten::gt",
    "aten::ge", "aten::logical_not", "aten::logical_and", "aten::logical_or", "aten::logical_xor"};

}  // namespace

bool writes_first(const Node* node) {
  return node->outputs().size() == 1 && writes_into(node, 0) && kind_name(node).ends_with('_') &&
         node->input(0)->type()->isSubtypeOf(*c10::TensorType::get());
}

std::string functional_kind(const Node* node) {
  std::string kind = kind_name(node);
  if (kind.starts_with("aten::__i")) return "aten::__" + kind.substr(9);
  kind.pop_back();
  return kind;
}

bool keeps_type_in_place(const Node* node) {
  const std::string kind = functional_kind(node);
  if (kTruth.count(kind) > 0) return is_bool(node->input(0));
  if (kPromoting.count(kind) == 0) return true;
  Float32Values float32;
  return std::all_of(node->inputs().begin(), node->inputs().end(), [&](const Value* operand) {
    return float32.contains(operand) || leaves_float32(operand);
  });
}

}  // namespace repquant
