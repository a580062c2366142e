// PyTorch's fast paths of nn.TransformerEncoderLayer and nn.MultiheadAttention, as the operators
// that they stand for.
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <vector>

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
              proj_bias: Tensor, mask: Optional[Tensor], mask_type: Optional[int],
              average: bool) -> Tuple[Tensor, Tensor]:
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
    weights = torch._safe_softmax(scores, -1)
    y = torch.matmul(weights, v)
    if average:
        weights = weights.mean(1)
    return torch.linear(y.transpose(1, 2).flatten(2), proj_weight, proj_bias), weights

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
                            mask_type, False)[0]
        y = torch.layer_norm(x, [embed_dim], norm_weight_2, norm_bias_2, eps)
        return x + feed_forward(y, use_gelu, weight_1, bias_1, weight_2, bias_2)
    x = src + attention(src, heads, qkv_weight, qkv_bias, proj_weight, proj_bias, mask, mask_type,
                        False)[0]
    x = torch.layer_norm(x, [embed_dim], norm_weight_1, norm_bias_1, eps)
    x = x + feed_forward(x, use_gelu, weight_1, bias_1, weight_2, bias_2)
    return torch.layer_norm(x, [embed_dim], norm_weight_2, norm_bias_2, eps)

def padded(x: Tensor, padding: float, used: Tensor, asked: bool, aligned: bool) -> Tensor:
    gone = used.logical_not()
    if asked:
        gone = gone.logical_and(torch.scalar_tensor(aligned, dtype=11))
    return x.masked_fill(gone.unsqueeze(-1), padding)
)";

std::vector<Value*> inputs_of(const Node* node, const std::vector<const char*>& names) {
  std::vector<Value*> inputs;
  for (const char* name : names) inputs.push_back(named_input(node, name));
  return inputs;
}

bool is_self_attention(const Node* node) {
  return node->input(0) == node->input(1) && node->input(0) == node->input(2);
}

/// What reads a nested tensor: encoder layers one after the other, then what pads it again. Empty
/// if there is anything else.
std::vector<Node*> readers_of_nested(Value* nested) {
  std::vector<Node*> readers;
  for (;;) {
    if (nested->uses().size() != 1 || nested->uses()[0].offset != 0) return {};
    readers.push_back(nested->uses()[0].user);
    if (is_kind(readers.back(), "aten::to_padded_tensor")) return readers;
    if (!is_kind(readers.back(), "aten::_transformer_encoder_layer_fwd")) return {};
    nested = readers.back()->output();
  }
}

/// A nested tensor, which leaves padding out, -> the padded one with a mask for each layer, and the
/// padding's rows overwritten in the end. True if it was replaced.
bool replace_nested(Node* node) {
  const std::vector<Node*> readers = readers_of_nested(node->output());
  if (readers.empty()) return false;
  Graph& graph = *node->owningGraph();
  torch::jit::WithInsertPoint guard(node);
  Value* gone = graph.insert(c10::Symbol::fromQualString("aten::logical_not"), {node->input(1)});
  Value* of_keys = graph.insertConstant(std::int64_t{1});
  const bool asked = !torch::jit::toIValue(node->input(2));
  for (Node* reader : readers) {
    if (reader == readers.back()) {
      replace_node(reader, *compile_function(kFastPaths, "padded"),
                   {reader->input(0), reader->input(1), node->input(1), graph.insertConstant(asked),
                    node->input(2)});
      break;
    }
    const std::size_t count = reader->inputs().size();
    reader->replaceInput(count - 2, gone);
    reader->replaceInput(count - 1, of_keys);
  }
  node->output()->replaceAllUsesWith(node->input(0));
  node->destroy();
  return true;
}

}  // namespace

void expect_nested_tensors(Graph& graph) {
  const c10::Symbol question =
      c10::Symbol::fromQualString("aten::_nested_tensor_from_mask_left_aligned");
  bool asked = false;
  for (Node* node : all_nodes(graph)) {
    torch::jit::WithInsertPoint guard(node);
    if (node->kind() == question) {
      node->output()->replaceAllUsesWith(graph.insertConstant(true));
      asked = true;
    } else if (asked && is_kind(node, "aten::_nested_tensor_from_mask")) {
      node->replaceInput(2, graph.insert(question, {node->input(0), node->input(1)}));
    }
  }
}

void decompose_fast_paths(std::shared_ptr<Graph>& graph) {
  bool changed = false;
  std::vector<Node*> nested = all_nodes(*graph);
  std::erase_if(nested,
                [](const Node* node) { return !is_kind(node, "aten::_nested_tensor_from_mask"); });
  for (Node* node : nested) changed |= replace_nested(node);
  for (Node* node : all_nodes(*graph)) {
    const std::string kind = node->kind().toQualString();
    if (kind == "aten::_transformer_encoder_layer_fwd") {
      const std::vector<Value*> inputs(node->inputs().begin(), node->inputs().end());
      replace_node(node, *compile_function(kFastPaths, "layer"), inputs);
      changed = true;
    } else if (kind == "aten::_native_multi_head_attention" && is_self_attention(node)) {
      replace_node(node, *compile_function(kFastPaths, "attention"),
                   inputs_of(node, {"query", "num_head", "qkv_weight", "qkv_bias", "proj_weight",
                                    "proj_bias", "mask", "mask_type", "average_attn_weights"}));
      changed = true;
    }
  }
  if (changed) clean_graph(graph);
}

}  // namespace repquant
