#include "graph/convolution.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <set>
#include <string>

#include "graph/normalize.h"
#include "graph/rank.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// A list of one number for each dimension; nothing if it is not constant.
std::vector<std::int64_t> numbers_of(const Value* list, std::size_t dimensions) {
  if (list == nullptr) return {};
  auto values = constant_ints(list).value_or(std::vector<std::int64_t>());
  if (values.size() == 1) values.resize(dimensions, values[0]);  // [0] stands for [0, 0] too
  return values.size() == dimensions ? values : std::vector<std::int64_t>();
}

/// Reads numbers, "valid" or "same" (which puts the odd zero behind). False for anything else.
bool read_padding(const Value* padding, Convolution& convolution) {
  if (padding == nullptr) return false;
  const std::size_t dimensions = convolution.dimensions();
  if (const auto name = constant_text(padding)) {
    if (*name != "valid" && *name != "same") return false;
    convolution.before.assign(dimensions, 0);
    convolution.after.assign(dimensions, 0);
    for (std::size_t d = 0; d < dimensions && *name == "same"; ++d) {
      const std::int64_t total = convolution.dilation[d] * (convolution.kernel[d] - 1);
      convolution.before[d] = total / 2;
      convolution.after[d] = total - total / 2;
    }
    return true;
  }
  convolution.before = convolution.after = numbers_of(padding, dimensions);
  return !convolution.before.empty();
}

/// What a convolution of either kind has, without its padding.
std::optional<Convolution> read_constants(const Node* node) {
  Convolution found;
  found.weight = constant_tensor(node->input(1));
  found.bias = constant_tensor(node->input(2));
  if (!found.weight.defined() || found.weight.scalar_type() != at::kFloat) return {};
  if (found.weight.dim() < 3 || found.weight.dim() > 5) return {};
  if (!node->input(2)->mustBeNone() && !found.bias.defined()) return {};
  // A sample without a batch has one dimension less.
  if (rank_of(node->input(0)).value_or(found.weight.dim()) != found.weight.dim()) return {};
  found.kernel = found.weight.sizes().slice(2).vec();
  found.stride = numbers_of(named_input(node, "stride"), found.dimensions());
  found.dilation = numbers_of(named_input(node, "dilation"), found.dimensions());
  if (found.stride.empty() || found.dilation.empty()) return {};
  found.groups = constant_int(named_input(node, "groups")).value_or(0);
  return found.groups >= 1 ? std::optional(found) : std::nullopt;
}

}  // namespace

bool Convolution::padded() const {
  const auto some = [](const auto& list) {
    return std::any_of(list.begin(), list.end(), [](auto p) { return p != 0; });
  };
  return some(before) || some(after);
}

bool is_convolution(const Node* node) {
  static const std::set<std::string> kKinds{"aten::conv1d",      "aten::conv2d",
                                            "aten::conv3d",      "aten::_convolution",
                                            "aten::convolution", "aten::_convolution_mode"};
  if (kKinds.count(node->kind().toQualString()) == 0) return false;
  const Value* transposed = named_input(node, "transposed");
  return transposed == nullptr || !torch::jit::constant_as<bool>(transposed).value_or(true);
}

bool is_transposed_convolution(const Node* node) {
  static const std::set<std::string> kKinds{"aten::conv_transpose1d", "aten::conv_transpose2d",
                                            "aten::conv_transpose3d"};
  if (kKinds.count(node->kind().toQualString()) > 0) return true;
  const Value* transposed = named_input(node, "transposed");
  return transposed != nullptr && torch::jit::constant_as<bool>(transposed).value_or(false);
}

std::optional<Convolution> read_transposed_convolution(const Node* node) {
  if (!is_transposed_convolution(node)) return {};
  auto found = read_constants(node);
  if (!found) return {};
  found->before = numbers_of(named_input(node, "padding"), found->dimensions());
  found->after = numbers_of(named_input(node, "output_padding"), found->dimensions());
  return found->before.empty() || found->after.empty() ? std::nullopt : found;
}

std::optional<Convolution> read_convolution(const Node* node) {
  if (!is_convolution(node)) return {};
  auto found = read_constants(node);
  return found && read_padding(named_input(node, "padding"), *found) ? found : std::nullopt;
}

}  // namespace repquant
