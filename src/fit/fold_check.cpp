#include "fit/fold_check.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <unordered_map>

#include "fit/linear_problem.h"
#include "graph/walker.h"

namespace repquant {

using torch::jit::Node;

double fold_deviation(const Model& model, const std::vector<Site>& sites,
                      const std::vector<SitePlan>& plans, const std::vector<at::Tensor>& inputs,
                      const std::vector<at::Tensor>& reference) {
  std::unordered_map<const Node*, ChannelFold> norms;
  std::unordered_map<const Node*, FoldedLinear> linears;
  for (const auto& site : sites) {
    if (site.norm == nullptr) continue;
    for (const auto& plan : plans) {
      if (plan.path != site.path) continue;
      const auto& linear = std::get<LinearPlan>(plan.plan);
      if (linear.norm.empty()) continue;
      const auto fold = fold_of(linear.input);
      norms[site.norm] = fold;
      linears[site.node] = folded_linear(site.weight, site.bias, fold);
    }
  }
  const NodeHook hook = [&](const Node* node, Values& values) {
    if (const auto norm = norms.find(node); norm != norms.end()) {
      run_node(node, values);
      // (gamma n + beta) / r - b: the folded parameters applied to the same normalised value.
      auto& out = values.at(node->outputs()[0]);
      out = out.toTensor() / norm->second.ratio - norm->second.shift;
      return true;
    }
    if (const auto linear = linears.find(node); linear != linears.end()) {
      values[node->output()] = at::linear(values.at(node->input(0)).toTensor(),
                                          linear->second.weight, linear->second.bias);
      return true;
    }
    return false;
  };
  const Schedule schedule(*model.graph);
  const std::vector<c10::IValue> bound(inputs.begin(), inputs.end());
  const auto outputs = output_tensors(run_graph(*model.graph, schedule, bound, hook));
  double deviation = 0.0;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].is_floating_point() || outputs[i].numel() == 0) continue;
    const double largest = reference.at(i).abs().max().item<double>();
    const double difference = (outputs[i] - reference[i]).abs().max().item<double>();
    deviation = std::max(deviation, largest > 0 ? difference / largest : difference);
  }
  return deviation;
}

}  // namespace repquant
