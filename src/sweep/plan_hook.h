// Evaluates the quantized sites of a flat graph by their plans, inside the walker.
#pragma once

#include <unordered_map>

#include "graph/site.h"
#include "graph/walker.h"
#include "plan/site_plan.h"

namespace repquant {

/// A NodeHook: nodes of planned sites give the simulation's values, all others are left to the
/// walker. The plans must outlive it.
class PlanHook {
 public:
  /// From now on `site` is evaluated by `plan`.
  void add(const Site& site, const SitePlan& plan);

  bool operator()(const torch::jit::Node* node, Values& values) const;

 private:
  std::unordered_map<const torch::jit::Node*, const SitePlan*> plans_;
  // Softmax nodes whose product site evaluates them: they pass the scores through.
  std::unordered_map<const torch::jit::Node*, const SitePlan*> softmaxes_;
};

/// A hook for `plans`, which belong to some of `sites`, joined by path.
PlanHook plan_hook(const std::vector<Site>& sites, const std::vector<SitePlan>& plans);

}  // namespace repquant
