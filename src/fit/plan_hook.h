// Evaluates the quantized sites of a flat graph inside the walker.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "graph/site.h"
#include "graph/walker.h"
#include "plan/site_plan.h"

namespace repquant {

/// A NodeHook: nodes of added sites give their site's values, all others are left to the walker.
class PlanHook {
 public:
  /// The output of a site from its operands: {x}, {left, right}, {scores, value} or {indices}.
  using Evaluate = std::function<at::Tensor(const std::vector<at::Tensor>& operands)>;

  /// From now on `site` is simulated by `plan`, which must outlive the hook.
  void add(const Site& site, const SitePlan& plan);
  void add(const Site& site, Evaluate evaluate);

  bool operator()(const torch::jit::Node* node, Values& values) const;

 private:
  struct Evaluated {
    Evaluate evaluate;
    std::vector<std::size_t> operands;  // inputs of the node
  };

  std::unordered_map<const torch::jit::Node*, Evaluated> sites_;
  // Softmax nodes whose product site evaluates them: they pass the scores through.
  std::unordered_set<const torch::jit::Node*> softmaxes_;
};

/// A hook for `plans`, which belong to some of `sites`, joined by path.
PlanHook plan_hook(const std::vector<Site>& sites, const std::vector<SitePlan>& plans);

/// The site of each plan.
std::vector<const Site*> sites_of(const std::vector<Site>& sites,
                                  const std::vector<SitePlan>& plans);

}  // namespace repquant
