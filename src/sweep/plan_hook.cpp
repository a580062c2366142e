#include "sweep/plan_hook.h"

#include <ATen/core/Tensor.h>
#include <torch/csrc/jit/ir/ir.h>

#include <string>

#include "plan/simulate.h"

namespace repquant {

using torch::jit::Node;

void PlanHook::add(const Site& site, const SitePlan& plan) {
  plans_[site.node] = &plan;
  if (site.softmax != nullptr) softmaxes_[site.softmax] = &plan;
}

bool PlanHook::operator()(const Node* node, Values& values) const {
  const auto operand = [&](std::size_t i) { return values.at(node->input(i)).toTensor(); };
  if (softmaxes_.count(node) > 0) {
    values[node->output()] = operand(0);
    return true;
  }
  const auto found = plans_.find(node);
  if (found == plans_.end()) return false;
  const auto& plan = found->second->plan;
  if (const auto* linear = std::get_if<LinearPlan>(&plan)) {
    values[node->output()] = simulate_linear(*linear, operand(0));
  } else if (const auto* scores = std::get_if<ScoresPlan>(&plan)) {
    values[node->output()] = simulate_scores(*scores, operand(0), operand(1));
  } else {
    values[node->output()] = simulate_attend(std::get<AttendPlan>(plan), operand(0), operand(1));
  }
  return true;
}

PlanHook plan_hook(const std::vector<Site>& sites, const std::vector<SitePlan>& plans) {
  std::unordered_map<std::string, const SitePlan*> by_path;
  for (const auto& plan : plans) by_path[plan.path] = &plan;
  PlanHook hook;
  for (const auto& site : sites) {
    if (const auto found = by_path.find(site.path); found != by_path.end()) {
      hook.add(site, *found->second);
    }
  }
  return hook;
}

}  // namespace repquant
