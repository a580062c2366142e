// PyTorch's fast paths of nn.TransformerEncoderLayer and nn.MultiheadAttention, as the operators
// that they stand for.
#include <torch/csrc/jit/ir/ir.h>

#include <string>

#include "graph/normalize.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

// Masks as in torch.nn.modules.activation.MultiheadAttention.merge_masks: kind 0 [T, T], kind 1
// (key padding) [B, T], kind 2 [B, H, T, T]; boolean masks are true where nothing is attended to.
// 11 is c10::ScalarType::Bool. A row that is masked throughout gives 0.
constexpr const char* kFastPaths = R"(
def attention(x: Tensor, heads: int, qkv_weight: Tensor, qkv_bias: Tensor, proj_weight: Tensor,
              proj_bias: Tensor, mask: Optional[Tensor], mask_type: Optional[int]) -> Tensor:
    batch = x.size(0)
    tokens = x.size(1)
    qkv = torch.linear(x, qkv_weight, qkv_bias)
    qkv = qkv.reshape([batch, tokens, 3, heads, -1]).permute([2, 0, 3, 1, 4])
    q = qkv.select(0, 0)
    k = qkv.select(0, 1)
    v = qkv.select(0, 2)
    scores = torch.matmul(q, k.transpose(-2, -1)) * (1.0 / float(q.size(-1)) ** 0.5)
    if mask is not None:
        shaped = mask
        if mask_type is not None:
            if mask_type == 1:
                shaped = mask.unsqueeze(1).unsqueeze(1)
        if mask.dtype == 11:
            scores = scores.masked_fill(shaped, float("-inf"))
        else:
            scores = scores + shaped
    y = torch.matmul(torch._safe_softmax(scores, -1), v)
    return torch.linear(y.transpose(1, 2).flatten(2), proj_weight, proj_bias)

def feed_forward(x: Tensor, use_gelu: bool, weight_1: Tensor, bias_1: Tensor, weight_2: Tensor,
                 bias_2: Tensor) -> Tensor:
    y = torch.linear(x, weight_1, bias_1)
    if use_gelu:
        y = torch.gelu(y)
    else:
        y = torch.relu(y)
    return torch.linear(y, weight_2, bias_2)

def layer(src: Tensor, embed_dim: int, heads: int, qkv_weight: Tensor, qkv_bias: Tensor,
          proj_weight: Tensor, proj_bias: Tensor, use_gelu: bool, norm_first: bool, eps: float,
          norm_weight_1: Tensor, norm_bias_1: Tensor, norm_weight_2: Tensor, norm_bias_2: Tensor,
          weight_1: Tensor, bias_1: Tensor, weight_2: Tensor, bias_2: Tensor,
          mask: Optional[Tensor], mask_type: Optional[int]) -> Tensor:
    if norm_first:
        y = torch.layer_norm(src, [embed_dim], norm_weight_1, norm_bias_1, eps)
        x = src + attention(y, heads, qkv_weight, qkv_bias, proj_weight, proj_bias, mask,
                            mask_type)
        y = torch.layer_norm(x, [embed_dim], norm_weight_2, norm_bias_2, eps)
        return x + feed_forward(y, use_gelu, weight_1, bias_1, weight_2, bias_2)
    x = src + attention(src, heads, qkv_weight, qkv_bias, proj_weight, proj_bias, mask, mask_type)
    x = torch.layer_norm(x, [embed_dim], norm_weight_1, norm_bias_1, eps)
    x = x + feed_forward(x, use_gelu, weight_1, bias_1, weight_2, bias_2)
    return torch.layer_norm(x, [embed_dim], norm_weight_2, norm_bias_2, eps)
)";

std::vector<Value*> inputs_of(const Node* node, const std::vector<const char*>& names) {
  std::vector<Value*> inputs;
  for (const char* name : names) inputs.push_back(named_input(node, name));
  return inputs;
}

/// Self-attention whose averaged weights nobody reads.
bool is_plain_self_attention(const Node* node) {
  return node->input(0) == node->input(1) && node->input(0) == node->input(2) &&
         node->outputs()[1]->uses().empty();
}

}  // namespace

void decompose_fast_paths(std::shared_ptr<Graph>& graph) {
  bool changed = false;
  for (Node* node : all_nodes(*graph)) {
    const std::string kind = node->kind().toQualString();
    if (kind == "aten::_transformer_encoder_layer_fwd") {
      const std::vector<Value*> inputs(node->inputs().begin(), node->inputs().end());
      replace_node(node, *compile_function(kFastPaths, "layer"), inputs);
      changed = true;
    } else if (kind == "aten::_native_multi_head_attention" && is_plain_self_attention(node)) {
      replace_node(node, *compile_function(kFastPaths, "attention"),
                   inputs_of(node, {"query", "num_head", "qkv_weight", "qkv_bias", "proj_weight",
                                    "proj_bias", "mask", "mask_type"}));
      changed = true;
    }
  }
  if (changed) clean_graph(graph);
}

}  // namespace repquant
