// Fused attention, written as TorchScript text.
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <string>

#include "graph/normalize.h"
#include "graph/rewrite.h"
#include "graph/value_facts.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

// 11 is c10::ScalarType::Bool, which TorchScript text compiled from C++ cannot name.
// Semantics of torch.nn.functional.scaled_dot_product_attention at inference, documented there.
// Nothing but the sum or the softmax reads the scores, so that all of it can become one operator.
constexpr const char* kAttention = R"(
def attention(q: Tensor, k: Tensor, v: Tensor, mask: Optional[Tensor], dropout_p: float,
              is_causal: bool, scale: Optional[float], enable_gqa: bool,
              bool_mask: bool) -> Tensor:
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
        if bool_mask:
            scores = scores.masked_fill(mask.logical_not(), float("-inf"))
        else:
            if mask.dtype == 11:
                bias = torch.zeros_like(mask, dtype=q.dtype)
                bias = bias.masked_fill(mask.logical_not(), float("-inf"))
            else:
                bias = mask
            scores = scores + bias
    return torch.matmul(torch._safe_softmax(scores, -1), v)
)";

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
    {
      torch::jit::WithInsertPoint guard(node);
      inputs.push_back(graph->insertConstant(is_bool(named_input(node, "attn_mask"))));
    }
    replace_node(node, *body, inputs);
    changed = true;
  }
  if (changed) clean_graph(graph);
}

}  // namespace repquant
