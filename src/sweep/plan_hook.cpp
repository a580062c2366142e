#include "sweep/plan_hook.h"

#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <utility>

#include "plan/simulate.h"

namespace repquant {
namespace {

using torch::jit::Node;

at::Tensor simulate(const SitePlan& plan, const std::vector<at::Tensor>& operands) {
  if (const auto* linear = std::get_if<LinearPlan>(&plan.plan)) {
    return simulate_linear(*linear, operands[0]);
  }
  if (const auto* scores = std::get_if<ScoresPlan>(&plan.plan)) {
    return simulate_scores(*scores, operands[0], operands[1]);
  }
  return simulate_attend(std::get<AttendPlan>(plan.plan), operands[0], operands[1]);
}

bool is_product_of_attention(const Site& site) {
  return site.kind == SiteKind::kScores || site.kind == SiteKind::kAttend;
}

}  // namespace

void PlanHook::add(const Site& site, const SitePlan& plan) {
  add(site, [&plan](const std::vector<at::Tensor>& operands) { return simulate(plan, operands); });
}

void PlanHook::add(const Site& site, Evaluate evaluate) {
  sites_[site.node] = {std::move(evaluate), is_product_of_attention(site) ? 2U : 1U};
  if (site.softmax != nullptr) softmaxes_.insert(site.softmax);
}

bool PlanHook::operator()(const Node* node, Values& values) const {
  const auto operand = [&](std::size_t i) { return values.at(node->input(i)).toTensor(); };
  if (softmaxes_.count(node) > 0) {
    values[node->output()] = operand(0);
    return true;
  }
  const auto found = sites_.find(node);
  if (found == sites_.end()) return false;
  std::vector<at::Tensor> operands;
  for (std::size_t i = 0; i < found->second.operands; ++i) operands.push_back(operand(i));
  values[node->output()] = found->second.evaluate(operands);
  return true;
}

std::vector<const Site*> sites_of(const std::vector<Site>& sites,
                                  const std::vector<SitePlan>& plans) {
  std::unordered_map<std::string, const Site*> by_path;
  for (const Site& site : sites) by_path[site.path] = &site;
  std::vector<const Site*> result;
  for (const SitePlan& plan : plans) result.push_back(by_path.at(plan.path));
  return result;
}

PlanHook plan_hook(const std::vector<Site>& sites, const std::vector<SitePlan>& plans) {
  const std::vector<const Site*> planned = sites_of(sites, plans);
  PlanHook hook;
  for (std::size_t i = 0; i < plans.size(); ++i) hook.add(*planned[i], plans[i]);
  return hook;
}

}  // namespace repquant
