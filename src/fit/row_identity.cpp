#include "fit/row_identity.h"

#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <set>
#include <string>

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// Operand 0 in the order, or those elements of it, that the other operands say.
const std::set<std::string> kSelecting{
    "aten::index",         "aten::index_select",   "aten::gather",    "aten::take",
    "aten::masked_select", "aten::take_along_dim", "aten::embedding", "aten::repeat_interleave",
    "aten::narrow",        "aten::slice",          "aten::select",    "aten::split_with_sizes",
    "aten::roll"};
/// Elements of operand 0, where that says.
const std::set<std::string> kSorting{"aten::nonzero", "aten::nonzero_numpy", "aten::sort",
                                     "aten::argsort", "aten::topk",          "aten::unique_dim",
                                     "aten::_unique", "aten::_unique2",      "aten::msort"};
/// Operand 0 with something written into it.
const std::set<std::string> kWriting{
    "aten::index_add",      "aten::index_put",      "aten::index_copy",
    "aten::index_fill",     "aten::scatter",        "aten::scatter_add",
    "aten::scatter_reduce", "aten::masked_scatter", "aten::masked_fill"};

class Search {
 public:
  explicit Search(const ValueSet& quantized) : quantized_(quantized) {}

  bool depends(const Value* value) {
    if (!is_quantized(value) || !seen_.insert(value).second) return false;
    const Node* node = value->node();
    const std::string kind = node->kind().toQualString();
    if (kSorting.count(kind) > 0) return true;
    if (!node->blocks().empty()) return depends_inside(node);
    const auto inputs = node->inputs();
    if (kSelecting.count(kind) > 0) {
      const bool chosen = std::any_of(inputs.begin() + 1, inputs.end(),
                                      [&](const Value* v) { return is_quantized(v); });
      return chosen || depends(inputs[0]);
    }
    if (kWriting.count(kind) > 0) return depends(inputs[0]);
    return std::any_of(inputs.begin(), inputs.end(), [&](const Value* v) { return depends(v); });
  }

 private:
  bool is_quantized(const Value* value) const { return quantized_.count(value) > 0; }

  /// A branch or a loop: which way it goes and how often are the data's choice, or something inside
  /// chooses, or it gives on what depends.
  bool depends_inside(const Node* node) {
    const auto quantized = [&](const Value* v) { return is_quantized(v); };
    const auto dependent = [&](const Value* v) { return depends(v); };
    if (std::any_of(node->inputs().begin(), node->inputs().end(), quantized)) return true;
    for (const torch::jit::Block* block : node->blocks()) {
      for (const Node* inner : block->nodes()) {
        const std::string kind = inner->kind().toQualString();
        if (kSorting.count(kind) > 0 || kSelecting.count(kind) > 0) return true;
        if (!inner->blocks().empty()) {
          if (depends_inside(inner)) return true;
        } else if (std::any_of(inner->inputs().begin(), inner->inputs().end(), dependent)) {
          return true;
        }
      }
      if (std::any_of(block->outputs().begin(), block->outputs().end(), dependent)) return true;
    }
    return false;
  }

  const ValueSet& quantized_;
  ValueSet seen_;
};

}  // namespace

bool rows_depend_on_data(const Value* value, const ValueSet& quantized) {
  return Search(quantized).depends(value);
}

}  // namespace repquant
