// Decompositions written as TorchScript text: fused attention and patch embeddings.
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <string>

#include "graph/normalize.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

// 11 is c10::ScalarType::Bool, which TorchScript text compiled from C++ cannot name.
// Semantics of torch.nn.functional.scaled_dot_product_attention at inference, documented there.
constexpr const char* kAttention = R"(
def attention(q: Tensor, k: Tensor, v: Tensor, mask: Optional[Tensor], dropout_p: float,
              is_causal: bool, scale: Optional[float], enable_gqa: bool) -> Tensor:
    if enable_gqa:
        groups = q.size(-3) // k.size(-3)
        k = k.repeat_interleave(groups, -3)
        v = v.repeat_interleave(groups, -3)
    if scale is None:
        factor = 1.0 / float(q.size(-1)) ** 0.5
    else:
        factor = scale
    scores = torch.matmul(q, k.transpose(-2, -1)) * factor
    if is_causal:
        allowed = torch.ones([q.size(-2), k.size(-2)], dtype=11, device=q.device).tril()
        scores = scores.masked_fill(allowed.logical_not(), float("-inf"))
    if mask is not None:
        if mask.dtype == 11:
            bias = torch.zeros_like(mask, dtype=scores.dtype)
            bias = bias.masked_fill(mask.logical_not(), float("-inf"))
        else:
            bias = mask
        scores = scores + bias
    return torch.matmul(torch._safe_softmax(scores, -1), v)
)";

// The number of rows is a number of its own: weight.size(0) would keep the floating-point weight
// alive in an artifact.
constexpr const char* kPatches = R"(
def patches(x: Tensor, weight: Tensor, bias: Optional[Tensor], rows: int, kh: int,
            kw: int) -> Tensor:
    b = x.size(0)
    c = x.size(1)
    gh = x.size(2) // kh
    gw = x.size(3) // kw
    x = x.narrow(2, 0, gh * kh).narrow(3, 0, gw * kw)
    x = x.reshape([b, c, gh, kh, gw, kw]).permute([0, 2, 4, 1, 3, 5])
    y = torch.linear(x.reshape([b, gh * gw, c * kh * kw]), weight, bias)
    return y.transpose(1, 2).reshape([b, rows, gh, gw])
)";

bool all_equal(const Value* list, const std::vector<std::int64_t>& expected) {
  const auto constant = torch::jit::toIValue(list);
  if (!constant || !constant->isIntList()) return false;
  const auto values = constant->toIntVector();
  if (values.size() == 1) {  // TorchScript writes [0] for [0, 0]
    for (const auto e : expected) {
      if (e != values[0]) return false;
    }
    return true;
  }
  return values == expected;
}

/// True for a 2-D convolution whose windows tile the image: then it is a Linear on patches.
bool is_patch_embedding(const Node* node, const at::Tensor& weight) {
  if (!weight.defined() || weight.dim() != 4) return false;
  const std::vector<std::int64_t> kernel{weight.size(2), weight.size(3)};
  if (kernel[0] * kernel[1] == 1) return false;  // 1x1 convolutions belong to convolutional nets
  const auto* transposed = named_input(node, "transposed");
  if (transposed != nullptr && torch::jit::constant_as<bool>(transposed).value_or(true))
    return false;
  return all_equal(named_input(node, "stride"), kernel) &&
         all_equal(named_input(node, "padding"), {0, 0}) &&
         all_equal(named_input(node, "dilation"), {1, 1}) &&
         torch::jit::constant_as<std::int64_t>(named_input(node, "groups")).value_or(0) == 1;
}

}  // namespace

void decompose_attention(std::shared_ptr<Graph>& graph) {
  const auto body = compile_function(kAttention, "attention");
  bool changed = false;
  for (Node* node : all_nodes(*graph)) {
    if (std::string(node->kind().toQualString()) != "aten::scaled_dot_product_attention") continue;
    std::vector<Value*> inputs;
    for (const char* name :
         {"query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa"}) {
      inputs.push_back(named_input(node, name));
    }
    replace_node(node, *body, inputs);
    changed = true;
  }
  if (changed) clean_graph(graph);
}

std::vector<Node*> decompose_patch_embeddings(std::shared_ptr<Graph>& graph) {
  const auto body = compile_function(kPatches, "patches");
  std::vector<Node*> linears;
  for (Node* node : all_nodes(*graph)) {
    const std::string kind = node->kind().toQualString();
    if (kind != "aten::conv2d" && kind != "aten::_convolution" && kind != "aten::convolution") {
      continue;
    }
    const auto weight = constant_tensor(node->input(1));
    if (!is_patch_embedding(node, weight)) continue;
    torch::jit::WithInsertPoint guard(node);
    const std::vector<Value*> inputs{node->input(0),
                                     insert_tensor(node, weight.flatten(1).clone()),
                                     node->input(2),
                                     graph->insertConstant(weight.size(0)),
                                     graph->insertConstant(weight.size(2)),
                                     graph->insertConstant(weight.size(3))};
    for (Node* added : replace_node(node, *body, inputs)) {
      if (std::string(added->kind().toQualString()) == "aten::linear") linears.push_back(added);
    }
  }
  return linears;
}

}  // namespace repquant
