// A whole quantized model with weights that can be learned.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "fit/blocks.h"
#include "graph/model.h"
#include "graph/site.h"
#include "graph/walker.h"
#include "learn/objective.h"
#include "learn/soft_plan.h"
#include "plan/site_plan.h"

namespace repquant {

/// Soft plans of the sites that have a plan; the others stay in floating point. `model` and `sites`
/// must outlive it.
class SoftModel {
 public:
  /// `plans` belong to some of `sites`, joined by path. `rate`: see SoftPlan.
  SoftModel(const Model& model, const std::vector<Site>& sites, const std::vector<SitePlan>& plans,
            double rate);

  std::vector<Parameter> parameters() const;
  using Realized = std::vector<std::vector<at::Tensor>>;  // see SoftPlan::realize(), by plan
  Realized realize() const;
  std::vector<SitePlan> harden() const;

  /// For each end of a block the rows that the outputs depend on, as Results::used: not those that
  /// pad a sentence. Throws c10::Error or Error for a model that cannot be differentiated.
  std::vector<at::Tensor> used_rows(const std::vector<at::Tensor>& inputs) const;
  /// Of the floating-point model.
  Results run_float(const std::vector<at::Tensor>& inputs) const;
  /// Of the soft plans, differentiable by `realized`.
  Results run_soft(const std::vector<at::Tensor>& inputs, const Realized& realized) const;
  /// Of the simulation of `plans`, of the same sites as those given in the constructor.
  Results run_hard(const std::vector<at::Tensor>& inputs, const std::vector<SitePlan>& plans) const;

 private:
  Results run(const std::vector<at::Tensor>& inputs, const NodeHook& hook) const;

  const Model& model_;
  Schedule schedule_;
  std::vector<GraphBlock> blocks_;
  std::vector<const Site*> sites_;  // those of the plans
  std::vector<std::unique_ptr<SoftPlan>> soft_;
};

}  // namespace repquant
