#include "graph/reaches_norm.h"

#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <set>
#include <string>

#include "graph/operator_kinds.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

constexpr int kFarthest = 16;  // operators on the way

/// Beside those of the last dimensions.
const std::set<std::string> kOtherNorms{"aten::group_norm", "aten::instance_norm",
                                        "aten::linalg_vector_norm", "aten::norm",
                                        "aten::cosine_similarity"};
/// Of one value, with f(0) = 0.
const std::set<std::string> kZeroAtZero{
    "aten::relu", "aten::gelu", "aten::silu",       "aten::hardswish",
    "aten::tanh", "aten::elu",  "aten::selu",       "aten::mish",
    "aten::neg",  "aten::abs",  "aten::leaky_relu", "aten::dropout",
    "aten::mul",  "aten::to",   "aten::cat",        "aten::masked_fill"};

/// Whether zeros in input `offset` of `node` are zeros behind it.
bool keeps_zeros(const Node* node, std::size_t offset) {
  if (kind_name(node) == "aten::linear") return offset == 0 && node->input(2)->mustBeNone();
  if (kind_name(node) == "aten::div" || is_shape_only(node)) return offset == 0;
  return kZeroAtZero.count(kind_name(node)) > 0 || node->kind() == c10::prim::ListConstruct;
}

bool search(const Value* value, int left, std::set<const Value*>& seen) {
  if (left == 0 || !seen.insert(value).second) return false;
  return std::any_of(value->uses().begin(), value->uses().end(), [&](const auto& use) {
    if (is_norm(use.user) || kOtherNorms.count(kind_name(use.user)) > 0) return use.offset == 0;
    if (!keeps_zeros(use.user, use.offset)) return false;
    return std::any_of(use.user->outputs().begin(), use.user->outputs().end(),
                       [&](const Value* output) { return search(output, left - 1, seen); });
  });
}

}  // namespace

bool reaches_norm(const Value* value) {
  std::set<const Value*> seen;
  return search(value, kFarthest, seen);
}

}  // namespace repquant
