#include "sweep/soft_model.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include "plan/simulate.h"
#include "sweep/gradients.h"
#include "sweep/plan_hook.h"
#include "sweep/sensitivity.h"

namespace repquant {
namespace {

bool same_grid(const InputQuantizer& a, const InputQuantizer& b) {
  return same_codes(a, b) && a.scale == b.scale && a.zero_point == b.zero_point;
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

// In a classifier with a class token only that token matters in the end.
constexpr double kGradientShare = 0.8;

/// What the rows [.., T, N] of a value count for by their gradients, [.., T, 1].
at::Tensor weights_by(const at::Tensor& gradient) {
  if (gradient.dim() < 2) return {};
  return weights_of_squares(gradient.square().mean(-1, /*keepdim=*/true), kGradientShare);
}

at::Tensor floating_tensor(const Values& values, const torch::jit::Value* value) {
  const auto found = values.find(value);
  if (found == values.end() || !found->second.isTensor()) return {};
  const at::Tensor& tensor = found->second.toTensor();
  return tensor.is_floating_point() ? tensor : at::Tensor();
}

}  // namespace

SoftModel::SoftModel(const Model& model, const std::vector<Site>& sites,
                     const std::vector<SitePlan>& plans)
    : model_(model),
      schedule_(*model.graph),
      blocks_(find_blocks(schedule_, sites)),
      sites_(sites_of(sites, plans)) {
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const Site* site = sites_[i];
    const SoftPlan* owner = nullptr;
    for (std::size_t j = 0; j < i && owner == nullptr; ++j) {
      if (share_input(*sites_[j], plans[j], *site, plans[i])) owner = soft_[j].get();
    }
    soft_.push_back(std::make_unique<SoftPlan>(plans[i], owner, site->scale_only_fold));
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

Expected SoftModel::run_float(const std::vector<at::Tensor>& inputs, std::uint64_t seed) const {
  DifferentiateOptions options;
  options.seed = seed;
  for (const GraphBlock& block : blocks_) {
    if (block.carried == nullptr) continue;
    options.wanted.insert(block.carried);
    options.kept.insert(block.carried);
  }
  const Differentiated got = differentiate(*model_.graph, schedule_, inputs, options);
  Expected expected;
  for (const GraphBlock& block : blocks_) {
    if (block.carried == nullptr) continue;
    const auto value = got.kept.find(block.carried);
    const auto gradient = got.outputs_gradients.find(block.carried);
    const bool usable = value != got.kept.end() && value->second.is_floating_point();
    expected.carried.push_back(usable ? value->second : at::Tensor());
    expected.weights.push_back(
        gradient == got.outputs_gradients.end() ? at::Tensor() : weights_by(gradient->second));
  }
  return expected;
}

std::vector<at::Tensor> SoftModel::run_soft(const std::vector<at::Tensor>& inputs,
                                            const Realized& realized) const {
  PlanHook hook;
  for (std::size_t i = 0; i < soft_.size(); ++i) {
    hook.add(*sites_[i], [&soft = *soft_[i], &values = realized[i]](const auto& operands) {
      return soft.evaluate(operands, values);
    });
  }
  return run(inputs, hook);
}

std::vector<at::Tensor> SoftModel::run_hard(const std::vector<at::Tensor>& inputs,
                                            const std::vector<SitePlan>& plans) const {
  PlanHook hook;
  for (std::size_t i = 0; i < plans.size(); ++i) hook.add(*sites_[i], plans[i]);
  return run(inputs, hook);
}

std::vector<at::Tensor> SoftModel::run(const std::vector<at::Tensor>& inputs,
                                       const NodeHook& hook) const {
  Values values = bind_inputs(*model_.graph, copies_of(inputs));
  std::vector<at::Tensor> carried;
  for (const GraphBlock& block : blocks_) {
    if (block.carried == nullptr) break;
    run_range(schedule_, block.begin, block.end, values, hook);
    carried.push_back(floating_tensor(values, block.carried));
    // A copy, as operators that work in place may follow.
    if (carried.back().defined()) values[block.carried] = carried.back().detach().clone();
  }
  return carried;
}

std::vector<SitePlan> SoftModel::harden() const {
  std::vector<SitePlan> plans;
  for (const auto& soft : soft_) plans.push_back(soft->harden());
  return plans;
}

}  // namespace repquant
