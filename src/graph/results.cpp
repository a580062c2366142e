#include "graph/results.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

bool continues_input(const Value* value) {
  const Node* node = value->node();
  if (!is_kind(node, "aten::cat")) return false;
  const Node* parts = node->input(0)->node();
  return is_kind(parts, "prim::ListConstruct") && !parts->inputs().empty() &&
         is_given(parts->input(0));
}

/// Goes into tuples and lists that the graph puts together.
void collect(const Value* value, const c10::IValue& given, std::vector<at::Tensor>& results) {
  const Node* node = value->node();
  const bool puts_together =
      is_kind(node, "prim::TupleConstruct") || is_kind(node, "prim::ListConstruct");
  if (puts_together && (given.isTuple() || given.isList())) {
    const auto& items =
        given.isTuple() ? given.toTupleRef().elements().vec() : given.toListRef().vec();
    for (std::size_t i = 0; i < items.size(); ++i) collect(node->input(i), items[i], results);
    return;
  }
  if (continues_input(value)) return;
  const std::vector<at::Tensor> tensors = output_tensors({given});
  results.insert(results.end(), tensors.begin(), tensors.end());
}

}  // namespace

bool is_given(const Value* value) {
  const Node* node = value->node();
  const bool takes_out = is_kind(node, "prim::ListUnpack") || is_kind(node, "prim::TupleUnpack") ||
                         is_kind(node, "prim::TupleIndex") || is_kind(node, "aten::__getitem__");
  if (takes_out) return is_given(node->input(0));
  return node->kind() == c10::prim::Param && node->owningBlock() == value->owningGraph()->block();
}

std::vector<at::Tensor> result_tensors(const torch::jit::Graph& graph,
                                       const std::vector<c10::IValue>& outputs) {
  std::vector<at::Tensor> results;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    collect(graph.outputs()[i], outputs[i], results);
  }
  return results.empty() ? output_tensors(outputs) : results;
}

std::vector<at::Tensor> result_tensors(const torch::jit::Graph& graph, const Values& values) {
  std::vector<c10::IValue> outputs;
  for (const Value* value : graph.outputs()) outputs.push_back(values.at(value));
  return result_tensors(graph, outputs);
}

at::Tensor logits_in(const std::vector<at::Tensor>& outputs) {
  for (const at::Tensor& tensor : outputs) {
    if (!tensor.is_floating_point() || tensor.dim() < 2 || tensor.size(-1) < 2) continue;
    const at::Tensor norms = tensor.to(at::kDouble).norm(2, -1);
    const bool embeddings =
        norms.numel() > 1 && ((norms.max() - norms.min()) <= 1e-4 * norms.max()).item<bool>();
    if (!embeddings) return tensor;
  }
  return {};
}

}  // namespace repquant
