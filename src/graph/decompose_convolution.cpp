// Convolutions whose windows do not overlap, as Linears on what the windows hold.
#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>

#include "graph/normalize.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

// Every group is a Linear of its own; many small ones are slower than the convolution.
constexpr std::int64_t kMostGroups = 32;
constexpr std::int64_t kFewestFeatures = 4;

/// A convolution with one window for each output position and each input in at most one of them.
struct Tiling {
  at::Tensor weight;                 // [out, in / groups, kernel..]
  std::vector<std::int64_t> kernel;  // of each dimension
  std::vector<std::int64_t> stride;  // equal to the kernel, or any for a kernel of 1
  std::int64_t groups = 1;

  bool pointwise() const {
    return std::all_of(kernel.begin(), kernel.end(), [](auto k) { return k == 1; });
  }
};

/// A list of one number for each dimension; nothing if it is not constant.
std::vector<std::int64_t> numbers(const Value* list, std::size_t dimensions) {
  if (list == nullptr) return {};
  const auto constant = torch::jit::toIValue(list);
  if (!constant || !constant->isIntList()) return {};
  auto values = constant->toIntVector();
  if (values.size() == 1)
    values.resize(dimensions, values[0]);  // TorchScript writes [0] for [0, 0]
  return values.size() == dimensions ? values : std::vector<std::int64_t>();
}

bool has_no_padding(const Value* padding, const Tiling& tiling) {
  if (padding == nullptr) return false;
  if (const auto name = constant_text(padding)) {
    return *name == "valid" || (*name == "same" && tiling.pointwise());
  }
  return numbers(padding, tiling.kernel.size()) ==
         std::vector<std::int64_t>(tiling.kernel.size(), 0);
}

std::optional<Tiling> tiling_of(const Node* node) {
  static const std::set<std::string> kKinds{"aten::conv1d",      "aten::conv2d",
                                            "aten::conv3d",      "aten::_convolution",
                                            "aten::convolution", "aten::_convolution_mode"};
  if (kKinds.count(node->kind().toQualString()) == 0) return {};
  Tiling tiling;
  tiling.weight = constant_tensor(node->input(1));
  if (!tiling.weight.defined() || tiling.weight.scalar_type() != at::kFloat) return {};
  if (tiling.weight.dim() < 3 || tiling.weight.dim() > 5) return {};
  if (!node->input(2)->mustBeNone() && !constant_tensor(node->input(2)).defined()) return {};
  const auto* transposed = named_input(node, "transposed");
  if (transposed != nullptr && torch::jit::constant_as<bool>(transposed).value_or(true)) return {};
  tiling.kernel = tiling.weight.sizes().slice(2).vec();
  const std::size_t dimensions = tiling.kernel.size();
  tiling.stride = numbers(named_input(node, "stride"), dimensions);
  if (tiling.stride.empty() || !has_no_padding(named_input(node, "padding"), tiling)) return {};
  const auto dilation = numbers(named_input(node, "dilation"), dimensions);
  if (dilation.empty()) return {};
  for (std::size_t d = 0; d < dimensions; ++d) {
    if (tiling.kernel[d] > 1 && (dilation[d] != 1 || tiling.stride[d] != tiling.kernel[d])) {
      return {};
    }
    // Steps beside windows of several elements would need both slices and tiles.
    if (tiling.kernel[d] == 1 && tiling.stride[d] != 1 && !tiling.pointwise()) return {};
  }
  tiling.groups = constant_int(named_input(node, "groups")).value_or(0);
  const std::int64_t features = tiling.weight[0].numel();
  if (tiling.groups < 1 || tiling.groups > kMostGroups) return {};
  if (tiling.groups > 1 && features < kFewestFeatures) return {};
  return tiling;
}

/// Text of `y = ` the Linear of x, or one for each group of its features, concatenated.
std::string linear_text(const std::string& x, const Tiling& tiling) {
  if (tiling.groups == 1) return "    y = torch.linear(" + x + ", weight_0, bias_0)\n";
  const std::string features = std::to_string(tiling.weight[0].numel());
  std::string text = "    f = " + x + "\n    y = torch.cat([";
  for (std::int64_t g = 0; g < tiling.groups; ++g) {
    const std::string i = std::to_string(g);
    text += (g > 0 ? ", " : "") + std::string("torch.linear(f.narrow(-1, ") +
            std::to_string(g * tiling.weight[0].numel()) + ", " + features + "), weight_" + i +
            ", bias_" + i + ")";
  }
  return text + "], -1)\n";
}

std::string weight_arguments(const Tiling& tiling) {
  std::string text;
  for (std::int64_t g = 0; g < tiling.groups; ++g) {
    const std::string i = std::to_string(g);
    text += ", weight_" + i + ": Tensor, bias_" + i + ": Optional[Tensor]";
  }
  return text;
}

/// Channels last, the Linear, channels first again.
std::string pointwise_text(const Tiling& tiling) {
  const std::size_t dimensions = tiling.kernel.size();
  std::string text = "def tiles(x: Tensor" + weight_arguments(tiling) + ") -> Tensor:\n";
  std::string there = "0", back = "0, " + std::to_string(dimensions + 1);
  for (std::size_t d = 0; d < dimensions; ++d) {
    if (tiling.stride[d] != 1) {
      text += "    x = torch.slice(x, " + std::to_string(d + 2) + ", 0, 9223372036854775807, " +
              std::to_string(tiling.stride[d]) + ")\n";
    }
    there += ", " + std::to_string(d + 2);
    back += ", " + std::to_string(d + 1);
  }
  text += linear_text("x.permute([" + there + ", 1])", tiling);
  return text + "    return y.permute([" + back + "])\n";
}

// The number of rows is a number of its own: weight.size(0) would keep the floating-point weight
// alive in an artifact.
std::string patches_text(const Tiling& tiling) {
  const std::size_t dimensions = tiling.kernel.size();
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
  return "def tiles(x: Tensor" + weight_arguments(tiling) + ", rows: int" + arguments +
         ") -> Tensor:\n    b = x.size(0)\n    c = x.size(1)\n" + grids + narrow +
         "\n    x = x.reshape([" + split + "]).permute([" + order + ", " + inner + "])\n" +
         linear_text("x.reshape([b, " + product + ", c" + kernel + "])", tiling) +
         "    return y.transpose(1, 2).reshape([b, rows" + grid + "])\n";
}

std::vector<Value*> operands_of(Node* node, const Tiling& tiling) {
  Graph& graph = *node->owningGraph();
  torch::jit::WithInsertPoint guard(node);
  std::vector<Value*> operands{node->input(0)};
  const std::int64_t rows = tiling.weight.size(0) / tiling.groups;
  const at::Tensor bias = constant_tensor(node->input(2));
  for (std::int64_t g = 0; g < tiling.groups; ++g) {
    const at::Tensor part = tiling.weight.narrow(0, g * rows, rows).flatten(1);
    operands.push_back(insert_tensor(node, part.clone()));
    operands.push_back(tiling.groups == 1 || !bias.defined()
                           ? node->input(2)
                           : insert_tensor(node, bias.narrow(0, g * rows, rows).clone()));
  }
  if (!tiling.pointwise()) {
    operands.push_back(graph.insertConstant(tiling.weight.size(0)));
    for (const std::int64_t k : tiling.kernel) operands.push_back(graph.insertConstant(k));
  }
  return operands;
}

/// What a Linear gives is channels last in memory, where a convolution gives channels first: a view
/// that needs the latter must be free to copy.
void views_to_reshapes(Graph& graph) {
  for (Node* node : all_nodes(graph)) {
    if (!is_kind(node, "aten::view") || node->inputs().size() != 2) continue;
    if (!node->input(1)->type()->isSubtypeOf(*c10::ListType::ofInts())) continue;
    Node* reshape = node->replaceWithNewSymbol(c10::Symbol::fromQualString("aten::reshape"));
    reshape->copyMetadata(node);
    node->destroy();
  }
}

}  // namespace

std::vector<Node*> decompose_convolutions(std::shared_ptr<Graph>& graph) {
  std::vector<Node*> patches;
  bool channels_last = false;
  for (Node* node : all_nodes(*graph)) {
    const auto tiling = tiling_of(node);
    if (!tiling) continue;
    const bool pointwise = tiling->pointwise();
    channels_last = channels_last || pointwise || tiling->kernel.size() != 2;
    const auto body =
        compile_function(pointwise ? pointwise_text(*tiling) : patches_text(*tiling), "tiles");
    for (Node* added : replace_node(node, *body, operands_of(node, *tiling))) {
      if (!pointwise && is_kind(added, "aten::linear")) patches.push_back(added);
    }
  }
  if (channels_last) views_to_reshapes(*graph);
  return patches;
}

}  // namespace repquant
