// Padding, views and the copy that make the windows of a convolution -> one operator.
#include <torch/csrc/jit/ir/constants.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "graph/rewrite.h"
#include "runtime/fuse.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;
using List = std::vector<std::int64_t>;

constexpr std::size_t kMostDimensions = 2;

struct Windows {
  Value* input = nullptr;  // [B, sizes.., C]
  List before, after, kernel, stride, dilation;
  double zero = 0.0;
};

/// Takes in the padding before the windows, [0, 0, last before, last after, ..].
void read_padding(Windows& windows) {
  const Node* node = windows.input->node();
  if (!is_kind(node, "aten::constant_pad_nd")) return;
  const auto pad = constant_ints(node->input(1));
  const auto value = torch::jit::toIValue(node->input(2));
  const std::size_t n = windows.kernel.size();
  if (!pad || pad->size() != 2 * n + 2 || (*pad)[0] != 0 || (*pad)[1] != 0) return;
  if (!value || !value->isScalar()) return;
  if (std::any_of(pad->begin(), pad->end(), [](auto p) { return p < 0; })) return;
  for (std::size_t d = 0; d < n; ++d) {
    windows.before[d] = (*pad)[2 * (n - d)];
    windows.after[d] = (*pad)[2 * (n - d) + 1];
  }
  windows.zero = value->toScalar().toDouble();
  windows.input = windows.input->node()->input(0);
}

/// The last dimension's window of `value`: an unfold, and a slice where it is dilated.
bool read_window(Value*& value, std::int64_t dimension, Windows& windows) {
  std::int64_t dilation = 1;
  Node* node = value->node();
  if (is_kind(node, "aten::slice") && constant_int(node->input(1)) == -1 &&
      constant_int(node->input(2)) == 0 &&
      constant_int(node->input(3)) == std::numeric_limits<std::int64_t>::max()) {
    dilation = constant_int(node->input(4)).value_or(0);
    node = node->input(0)->node();
  }
  if (!is_kind(node, "aten::unfold") || constant_int(node->input(1)) != dimension) return false;
  const auto reach = constant_int(node->input(2)), stride = constant_int(node->input(3));
  if (!reach || !stride || dilation < 1 || *reach < 1 || *stride < 1) return false;
  windows.kernel.insert(windows.kernel.begin(), (*reach - 1) / dilation + 1);
  windows.stride.insert(windows.stride.begin(), *stride);
  windows.dilation.insert(windows.dilation.begin(), dilation);
  value = node->input(0);
  return (*reach - 1) % dilation == 0;
}

/// What graph/decompose_convolution.cpp writes, read backwards from the copy.
std::optional<Windows> match_windows(const Node* flatten) {
  if (!is_kind(flatten, "aten::flatten") || constant_int(flatten->input(2)) != -1) return {};
  const auto first = constant_int(flatten->input(1));  // n + 1
  const Node* permute = flatten->input(0)->node();
  if (!first || *first < 2 || *first > static_cast<std::int64_t>(kMostDimensions) + 1 ||
      !is_kind(permute, "aten::permute")) {
    return {};
  }
  const std::int64_t n = *first - 1;
  List order;
  for (std::int64_t d = 0; d <= n; ++d) order.push_back(d);
  for (std::int64_t d = 0; d < n; ++d) order.push_back(n + 2 + d);
  order.push_back(n + 1);
  if (constant_ints(permute->input(1)) != order) return {};
  Windows windows;
  Value* value = permute->input(0);
  for (std::int64_t d = n; d >= 1; --d) {
    if (!read_window(value, d, windows)) return {};
  }
  windows.input = value;
  windows.before.assign(windows.kernel.size(), 0);
  windows.after = windows.before;
  read_padding(windows);
  return windows;
}

}  // namespace

void fuse_windows(FusionContext& context, torch::jit::Graph& graph) {
  for (Node* node : all_nodes(graph)) {
    const auto windows = match_windows(node);
    if (!windows) continue;
    Value* rows = insert_operator(node, "repquant::windows",
                                  {windows->input, windows->before, windows->after, windows->kernel,
                                   windows->stride, windows->dilation, windows->zero});
    context.improve(node, rows);
  }
}

}  // namespace repquant
