#include "learn/soft_model.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include "fit/gradients.h"
#include "fit/plan_hook.h"
#include "graph/keep_codes.h"
#include "graph/results.h"

namespace repquant {
namespace {

/// Whether both Linears have the same rounded weight: that of a layer which is applied many times.
bool same_weight(const SitePlan& a, const SitePlan& b) {
  const auto* left = std::get_if<LinearPlan>(&a.plan);
  const auto* right = std::get_if<LinearPlan>(&b.plan);
  return left != nullptr && right != nullptr &&
         at::equal(left->weight.scale, right->weight.scale) &&
         at::equal(left->weight.codes, right->weight.codes);
}

at::Tensor floating_tensor(const Values& values, const torch::jit::Value* value) {
  const auto found = values.find(value);
  if (found == values.end() || !found->second.isTensor()) return {};
  const at::Tensor& tensor = found->second.toTensor();
  return tensor.is_floating_point() ? tensor : at::Tensor();
}

}  // namespace

SoftModel::SoftModel(const Model& model, const std::vector<Site>& sites,
                     const std::vector<SitePlan>& plans, double rate)
    : model_(model),
      schedule_(*model.graph),
      blocks_(find_blocks(schedule_, sites)),
      sites_(sites_of(sites, plans)) {
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const SoftPlan* owner = nullptr;
    for (std::size_t j = 0; j < i && owner == nullptr; ++j) {
      if (same_weight(plans[j], plans[i])) owner = soft_[j].get();
    }
    soft_.push_back(std::make_unique<SoftPlan>(plans[i], owner, rate));
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

std::vector<SitePlan> SoftModel::harden() const {
  std::vector<SitePlan> plans;
  for (const auto& soft : soft_) plans.push_back(soft->harden());
  return plans;
}

std::vector<at::Tensor> SoftModel::used_rows(const std::vector<at::Tensor>& inputs) const {
  DifferentiateOptions options;
  for (const GraphBlock& block : blocks_) {
    if (block.carried != nullptr) options.wanted.insert(block.carried);
  }
  const Differentiated got = differentiate(*model_.graph, schedule_, inputs, options);
  std::vector<at::Tensor> used;
  for (const GraphBlock& block : blocks_) {
    if (block.carried == nullptr) continue;
    const auto gradient = got.outputs_gradients.find(block.carried);
    const bool rows = gradient != got.outputs_gradients.end() && gradient->second.dim() > 1;
    used.push_back(rows ? gradient->second.ne(0).any(-1, /*keepdim=*/true).to(at::kFloat)
                        : at::Tensor());
  }
  return used;
}

Results SoftModel::run_float(const std::vector<at::Tensor>& inputs) const {
  return run(inputs, &pass_cache);
}

Results SoftModel::run_soft(const std::vector<at::Tensor>& inputs, const Realized& realized) const {
  PlanHook hook;
  for (std::size_t i = 0; i < soft_.size(); ++i) {
    hook.add(*sites_[i], [&soft = *soft_[i], &values = realized[i]](const auto& operands) {
      return soft.evaluate(operands, values);
    });
  }
  // Codes of keys and values that are kept have no gradient.
  return run(inputs, [&hook](const torch::jit::Node* node, Values& values) {
    return pass_cache(node, values) || hook(node, values);
  });
}

Results SoftModel::run_hard(const std::vector<at::Tensor>& inputs,
                            const std::vector<SitePlan>& plans) const {
  PlanHook hook;
  for (std::size_t i = 0; i < plans.size(); ++i) hook.add(*sites_[i], plans[i]);
  return run(inputs, hook);
}

Results SoftModel::run(const std::vector<at::Tensor>& inputs, const NodeHook& hook) const {
  Values values = bind_inputs(*model_.graph, copies_of(inputs));
  Results results;
  for (const GraphBlock& block : blocks_) {
    run_range(schedule_, block.begin, block.end, values, hook);
    if (block.carried != nullptr) results.ends.push_back(floating_tensor(values, block.carried));
  }
  for (const at::Tensor& output : result_tensors(*model_.graph, values)) {
    if (output.is_floating_point()) results.outputs.push_back(output);
  }
  return results;
}

}  // namespace repquant
