#include "sweep/soft_model.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <string>

#include "sweep/plan_hook.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

bool same_grid(const InputQuantizer& a, const InputQuantizer& b) {
  return a.bits == b.bits && a.form == b.form && a.scale == b.scale &&
         a.zero_point == b.zero_point && at::equal(a.multiplier, b.multiplier) &&
         at::equal(a.offset, b.offset);
}

/// Whether both Linears read the same codes of the same value.
bool share_input(const Site& a, const SitePlan& plan_a, const Site& b, const SitePlan& plan_b) {
  const auto* left = std::get_if<LinearPlan>(&plan_a.plan);
  const auto* right = std::get_if<LinearPlan>(&plan_b.plan);
  if (left == nullptr || right == nullptr) return false;
  if (!left->quantized_input || !right->quantized_input) return false;
  const bool same_norm = !left->norm.empty() && !right->norm.empty() && a.norm == b.norm;
  const bool same_value = a.node->input(0) == b.node->input(0);
  return (same_norm || same_value) && same_grid(left->input, right->input);
}

}  // namespace

SoftModel::SoftModel(const Model& model, const std::vector<Site>& sites,
                     const std::vector<SitePlan>& plans)
    : model_(model), schedule_(*model.graph), blocks_(find_blocks(schedule_, sites)) {
  std::unordered_map<std::string, const Site*> by_path;
  for (const Site& site : sites) by_path[site.path] = &site;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const Site* site = by_path.at(plans[i].path);
    const SoftPlan* owner = nullptr;
    for (std::size_t j = 0; j < i && owner == nullptr; ++j) {
      if (share_input(*sites_[j], plans[j], *site, plans[i])) owner = soft_[j].get();
    }
    sites_.push_back(site);
    soft_.push_back(std::make_unique<SoftPlan>(plans[i], owner, site->scale_only_fold));
    index_[site->node] = i;
    if (site->softmax != nullptr) softmaxes_.insert(site->softmax);
  }
}

std::vector<Parameter> SoftModel::parameters() const {
  std::vector<Parameter> all;
  for (const auto& soft : soft_) {
    all.insert(all.end(), soft->parameters().begin(), soft->parameters().end());
  }
  return all;
}

SoftModel::Realized SoftModel::realize() const {
  Realized all;
  for (const auto& soft : soft_) all.push_back(soft->realize());
  return all;
}

Observed SoftModel::run(const std::vector<at::Tensor>& inputs, const NodeHook& hook) const {
  std::vector<c10::IValue> copies;  // a model may write into its input
  for (const auto& tensor : inputs) copies.emplace_back(tensor.clone());
  Values values = bind_inputs(*model_.graph, copies);
  Observed observed;
  for (const Block& block : blocks_) {
    run_range(schedule_, block.begin, block.end, values, hook);
    if (block.carried == nullptr) continue;
    const auto found = values.find(block.carried);
    const bool usable = found != values.end() && found->second.isTensor() &&
                        found->second.toTensor().is_floating_point();
    observed.carried.push_back(usable ? found->second.toTensor() : at::Tensor());
  }
  std::vector<c10::IValue> outputs;
  for (const Value* output : model_.graph->outputs()) outputs.push_back(values.at(output));
  for (const at::Tensor& output : output_tensors(outputs)) {
    if (output.is_floating_point()) observed.outputs.push_back(output);
  }
  return observed;
}

Observed SoftModel::run_soft(const std::vector<at::Tensor>& inputs,
                             const Realized& realized) const {
  return run(inputs, [&](const Node* node, Values& values) {
    const auto operand = [&](std::size_t i) { return values.at(node->input(i)).toTensor(); };
    if (softmaxes_.count(node) > 0) {
      values[node->output()] = operand(0);
      return true;
    }
    const auto found = index_.find(node);
    if (found == index_.end()) return false;
    const std::size_t i = found->second;
    std::vector<at::Tensor> operands{operand(0)};
    if (!sites_[i]->weight.defined()) operands.push_back(operand(1));
    values[node->output()] = soft_[i]->evaluate(operands, realized[i]);
    return true;
  });
}

Observed SoftModel::run_hard(const std::vector<at::Tensor>& inputs,
                             const std::vector<SitePlan>& plans) const {
  PlanHook hook;
  for (std::size_t i = 0; i < plans.size(); ++i) hook.add(*sites_[i], plans[i]);
  return run(inputs, hook);
}

std::vector<SitePlan> SoftModel::harden() const {
  std::vector<SitePlan> plans;
  for (const auto& soft : soft_) plans.push_back(soft->harden());
  return plans;
}

}  // namespace repquant
