// Convolutions as Linears on what their windows hold.
#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "graph/convolution.h"
#include "graph/normalize.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

// Every group is a Linear of its own; many small ones are slower than the convolution.
constexpr std::int64_t kMostGroups = 32;
constexpr std::int64_t kFewestFeatures = 4;   // of a group: elements of a window
constexpr std::int64_t kFewestChannels = 16;  // of a group, where windows overlap

/// How the input of the Linear is made.
enum class Form {
  kPointwise,  // the elements themselves
  kTiles,      // windows that neither overlap nor leave the input
  kWindows,    // any windows
};

Form form_of(const Convolution& convolution) {
  if (convolution.padded()) return Form::kWindows;
  const auto& kernel = convolution.kernel;
  if (std::all_of(kernel.begin(), kernel.end(), [](auto k) { return k == 1; })) {
    return Form::kPointwise;
  }
  for (std::size_t d = 0; d < kernel.size(); ++d) {
    if (convolution.stride[d] != kernel[d]) return Form::kWindows;
    if (kernel[d] > 1 && convolution.dilation[d] != 1) return Form::kWindows;
  }
  return Form::kTiles;
}

/// Groups that are worth a Linear each.
bool has_large_groups(const Convolution& convolution, Form form) {
  if (convolution.groups == 1) return true;
  if (convolution.groups > kMostGroups) return false;
  return form == Form::kWindows ? convolution.weight.size(1) >= kFewestChannels
                                : convolution.weight[0].numel() >= kFewestFeatures;
}

std::string list_of(const std::vector<std::int64_t>& numbers) {
  std::string text;
  for (const std::int64_t n : numbers) text += (text.empty() ? "[" : ", ") + std::to_string(n);
  return text + "]";
}

/// Text that puts zeros around dimensions of x. `pad`: for those behind them.
std::string padding_text(std::vector<std::int64_t> pad, const std::vector<std::int64_t>& before,
                         const std::vector<std::int64_t>& after) {
  for (std::size_t d = before.size(); d-- > 0;) pad.insert(pad.end(), {before[d], after[d]});
  return "    x = torch.constant_pad_nd(x, " + list_of(pad) + ", 0)\n";
}

/// Text of `y = ` the Linear of x, or one for each group of its features, concatenated.
std::string linear_text(const std::string& x, const Convolution& convolution) {
  if (convolution.groups == 1) return "    y = torch.linear(" + x + ", weight_0, bias_0)\n";
  const std::string features = std::to_string(convolution.weight[0].numel());
  std::string text = "    f = " + x + "\n    y = torch.cat([";
  for (std::int64_t g = 0; g < convolution.groups; ++g) {
    const std::string i = std::to_string(g);
    text += (g > 0 ? ", " : "") + std::string("torch.linear(f.narrow(-1, ") +
            std::to_string(g * convolution.weight[0].numel()) + ", " + features + "), weight_" + i +
            ", bias_" + i + ")";
  }
  return text + "], -1)\n";
}

std::string weight_arguments(const Convolution& convolution) {
  std::string text;
  for (std::int64_t g = 0; g < convolution.groups; ++g) {
    const std::string i = std::to_string(g);
    text += ", weight_" + i + ": Tensor, bias_" + i + ": Optional[Tensor]";
  }
  return text;
}

/// Channels last, the Linear, channels first again.
std::string pointwise_text(const Convolution& convolution) {
  const std::size_t dimensions = convolution.kernel.size();
  std::string text = "def tiles(x: Tensor" + weight_arguments(convolution) + ") -> Tensor:\n";
  for (std::size_t d = 0; d < dimensions; ++d) {
    if (convolution.stride[d] != 1) {
      text += "    x = torch.slice(x, " + std::to_string(d + 2) + ", 0, 9223372036854775807, " +
              std::to_string(convolution.stride[d]) + ")\n";
    }
  }
  text += linear_text("x.permute(" + list_of(channels_last_order(dimensions)) + ")", convolution);
  return text + "    return y.permute(" + list_of(channels_first_order(dimensions)) + ")\n";
}

// The number of rows is a number of its own: weight.size(0) would keep the floating-point weight
// alive in an artifact.
std::string patches_text(const Convolution& convolution) {
  const std::size_t dimensions = convolution.kernel.size();
  const std::string names = std::string("dhw").substr(3 - dimensions);
  std::string sizes, grids, narrow = "    x = x", split = "b, c", order = "0", inner = "1";
  std::string product, grid, kernel, arguments;
  for (std::size_t d = 0; d < dimensions; ++d) {
    const std::string g = std::string("g") + names[d], k = std::string("k") + names[d];
    const std::string axis = std::to_string(d + 2);
    arguments += ", " + k + ": int";
    grids += "    " + g + " = x.size(" + axis + ") // " + k + "\n";
    narrow += ".narrow(" + axis + ", 0, " + g + " * " + k + ")";
    split += ", " + g + ", " + k;
    order += ", " + std::to_string(2 + 2 * d);
    inner += ", " + std::to_string(3 + 2 * d);
    product += (d > 0 ? " * " : "") + g;
    grid += ", " + g;
    kernel += " * " + k;
  }
  return "def tiles(x: Tensor" + weight_arguments(convolution) + ", rows: int" + arguments +
         ") -> Tensor:\n    b = x.size(0)\n    c = x.size(1)\n" + grids + narrow +
         "\n    x = x.reshape([" + split + "]).permute([" + order + ", " + inner + "])\n" +
         linear_text("x.reshape([b, " + product + ", c" + kernel + "])", convolution) +
         "    return y.transpose(1, 2).reshape([b, rows" + grid + "])\n";
}

/// Channels last; zeros around; views of the windows, one dimension after the other; a Linear on
/// what each window holds, its elements in the order [kernel.., channel]: a run of channels is then
/// copied at once. All dimensions are constants, so that any input size will do.
std::string windows_text(const Convolution& convolution) {
  const auto n = static_cast<std::int64_t>(convolution.dimensions());
  std::string text = "def windows(x: Tensor" + weight_arguments(convolution) +
                     ") -> Tensor:\n    x = x.permute(" +
                     list_of(channels_last_order(convolution.dimensions())) + ")\n";
  if (convolution.padded()) {
    text += padding_text({0, 0}, convolution.before, convolution.after);
  }
  std::vector<std::int64_t> order, back{0, n + 1};
  for (std::int64_t d = 0; d <= n; ++d) order.push_back(d);
  for (std::int64_t d = 0; d < n; ++d) order.push_back(n + 2 + d);
  for (std::int64_t d = 1; d <= n; ++d) back.push_back(d);
  order.push_back(n + 1);
  const std::string channels = std::to_string(convolution.weight.size(1));
  std::string parts;
  for (std::int64_t g = 0; g < convolution.groups; ++g) {
    const std::string i = std::to_string(g);
    text += "    f = x";
    if (convolution.groups > 1) {
      text +=
          ".narrow(-1, " + std::to_string(g * convolution.weight.size(1)) + ", " + channels + ")";
    }
    text += "\n";
    for (std::size_t d = 0; d < convolution.dimensions(); ++d) {
      const std::int64_t dilation = convolution.dilation[d];
      text += "    f = f.unfold(" + std::to_string(d + 1) + ", " +
              std::to_string(dilation * (convolution.kernel[d] - 1) + 1) + ", " +
              std::to_string(convolution.stride[d]) + ")\n";
      if (dilation > 1) {
        text += "    f = torch.slice(f, -1, 0, 9223372036854775807, " + std::to_string(dilation) +
                ")\n";
      }
    }
    text += "    y_" + i + " = torch.linear(f.permute(" + list_of(order) + ").flatten(" +
            std::to_string(n + 1) + "), weight_" + i + ", bias_" + i + ")\n";
    parts += (g > 0 ? ", y_" : "y_") + i;
  }
  const std::string joined = convolution.groups == 1 ? parts : "torch.cat([" + parts + "], -1)";
  return text + "    return " + joined + ".permute(" + list_of(back) + ")\n";
}

/// [rows, what the form's Linear reads].
at::Tensor matrix_of(const at::Tensor& weight, Form form) {
  return form == Form::kWindows ? weight.movedim(1, -1).flatten(1) : weight.flatten(1);
}

std::vector<Value*> operands_of(Node* node, const Convolution& convolution, Form form) {
  Graph& graph = *node->owningGraph();
  torch::jit::WithInsertPoint guard(node);
  std::vector<Value*> operands{node->input(0)};
  const std::int64_t rows = convolution.weight.size(0) / convolution.groups;
  const at::Tensor& bias = convolution.bias;
  for (std::int64_t g = 0; g < convolution.groups; ++g) {
    const at::Tensor part = matrix_of(convolution.weight.narrow(0, g * rows, rows), form);
    operands.push_back(insert_tensor(node, part.clone()));
    operands.push_back(convolution.groups == 1 || !bias.defined()
                           ? node->input(2)
                           : insert_tensor(node, bias.narrow(0, g * rows, rows).clone()));
  }
  if (form == Form::kTiles) {
    operands.push_back(graph.insertConstant(convolution.weight.size(0)));
    for (const std::int64_t k : convolution.kernel) operands.push_back(graph.insertConstant(k));
  }
  return operands;
}

std::vector<Node*> replace_convolution(Node* node, const Convolution& convolution, Form form) {
  const auto operands = operands_of(node, convolution, form);
  switch (form) {
    case Form::kPointwise:
      return replace_node(node, *compile_function(pointwise_text(convolution), "tiles"), operands);
    case Form::kTiles:
      return replace_node(node, *compile_function(patches_text(convolution), "tiles"), operands);
    case Form::kWindows:
      break;
  }
  return replace_node(node, *compile_function(windows_text(convolution), "windows"), operands);
}

/// A convolution that stays one and is padded more on one side of a dimension than on the other
/// ("same", of an even kernel): zeros put there first, and as many on both sides by itself.
std::string evenly_padded_text(const Convolution& convolution) {
  std::vector<std::int64_t> both, before = convolution.before, after = convolution.after;
  for (std::size_t d = 0; d < convolution.dimensions(); ++d) {
    both.push_back(std::min(before[d], after[d]));
    before[d] -= both[d];
    after[d] -= both[d];
  }
  return "def padded(x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:\n" +
         padding_text({}, before, after) + "    return torch.conv" +
         std::to_string(convolution.dimensions()) + "d(x, weight, bias, " +
         list_of(convolution.stride) + ", " + list_of(both) + ", " + list_of(convolution.dilation) +
         ", " + std::to_string(convolution.groups) + ")\n";
}

/// The Linears among the nodes of windows, each with the first node that takes its windows.
void note_windows(const std::vector<Node*>& nodes, std::map<const Node*, Node*>& windows) {
  Node* first = nullptr;
  for (Node* node : nodes) {
    const bool begins = is_kind(node, "aten::constant_pad_nd") || is_kind(node, "aten::narrow") ||
                        is_kind(node, "aten::unfold");
    if (first == nullptr && begins) first = node;
    if (!is_kind(node, "aten::linear")) continue;
    windows[node] = first;
    first = nullptr;
  }
}

}  // namespace

DecomposedConvolutions decompose_convolutions(std::shared_ptr<Graph>& graph) {
  DecomposedConvolutions result;
  bool channels_last = false;
  for (Node* node : all_nodes(*graph)) {
    if (node->owningBlock() != graph->block()) continue;  // no site in a branch
    const auto convolution = read_convolution(node);
    if (!convolution) continue;
    const Form form = form_of(*convolution);
    if (!has_large_groups(*convolution, form)) {
      if (convolution->before == convolution->after) continue;
      const std::vector<Value*> operands{node->input(0), node->input(1), node->input(2)};
      replace_node(node, *compile_function(evenly_padded_text(*convolution), "padded"), operands);
      continue;
    }
    const auto added = replace_convolution(node, *convolution, form);
    channels_last = channels_last || form != Form::kTiles || convolution->dimensions() != 2;
    if (form == Form::kWindows) note_windows(added, result.windows);
    if (form != Form::kTiles) continue;
    for (Node* one : added) {
      if (is_kind(one, "aten::linear")) result.patches.push_back(one);
    }
  }
  if (channels_last) keep_channels_last(graph);
  return result;
}

}  // namespace repquant
