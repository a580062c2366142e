#include "graph/observe.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include "graph/products.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

void record(const Value* value, const c10::IValue& content, Observed& observed) {
  if (content.isTensor()) {
    if (!content.toTensor().defined()) return;
    observed.shapes[value] = content.toTensor().sizes().vec();
    const at::ScalarType type = content.toTensor().scalar_type();
    if (type != at::kFloat) observed.types[value] = type;
  } else if (content.isInt() || content.isDouble() || content.isBool() || content.isIntList() ||
             content.isNone() || content.isString() || content.isDoubleList()) {
    observed.numbers[value] = content;
  }
}

}  // namespace

ObservedRun observe(const Model& model, const std::vector<at::Tensor>& inputs) {
  const at::NoGradGuard no_grad;
  ObservedRun run;
  Observed& observed = run.observed;
  if (!inputs.empty() && inputs[0].dim() > 0) observed.samples = inputs[0].size(0);
  const std::vector<c10::IValue> values = copies_of(inputs);
  for (const auto& [value, content] : bind_inputs(*model.graph, values)) {
    record(value, content, observed);
  }
  const NodeHook count = [&](const Node* node, Values& alive) {
    run_node(node, alive, count);
    if (const std::int64_t macs = product_macs(node, alive); macs > 0) observed.macs[node] += macs;
    return true;
  };
  const NodeHook watch = [&](const Node* node, Values& alive) {
    count(node, alive);
    for (const Value* output : node->outputs()) {
      if (const auto found = alive.find(output); found != alive.end()) {
        record(output, found->second, observed);
      }
    }
    return true;
  };
  run.outputs = output_tensors(run_graph(*model.graph, Schedule(*model.graph), values, watch));
  return run;
}

}  // namespace repquant
