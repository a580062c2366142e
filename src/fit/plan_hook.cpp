#include "fit/plan_hook.h"

#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <utility>

#include "base/overloaded.h"
#include "plan/simulate.h"

namespace repquant {
namespace {

using torch::jit::Node;

/// Which inputs of the site's node vary.
std::vector<std::size_t> operands_of(const Site& site) {
  using Inputs = std::vector<std::size_t>;
  return std::visit(Overloaded{[](const LinearSite&) { return Inputs{0}; },
                               [](const ScoresSite&) {
                                 return Inputs{0, 1};
                               },
                               [](const AttendSite&) {
                                 return Inputs{0, 1};
                               },
                               [](const EmbeddingSite&) { return Inputs{1}; },
                               [](const GroupedConvolutionSite&) { return Inputs{0}; }},
                    site.kind);
}

}  // namespace

void PlanHook::add(const Site& site, const SitePlan& plan) {
  add(site, [&plan](const std::vector<at::Tensor>& operands) { return simulate(plan, operands); });
}

void PlanHook::add(const Site& site, Evaluate evaluate) {
  sites_[site.node] = {std::move(evaluate), operands_of(site)};
  if (const auto* attend = std::get_if<AttendSite>(&site.kind)) {
    softmaxes_.insert(attend->softmax);
  }
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
  for (const std::size_t i : found->second.operands) operands.push_back(operand(i));
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
