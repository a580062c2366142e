// A whole quantized model with parameters that can be learned.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "graph/model.h"
#include "graph/site.h"
#include "graph/walker.h"
#include "plan/site_plan.h"
#include "sweep/blocks.h"
#include "sweep/soft_plan.h"

namespace repquant {

/// What a run of a model is judged by; floating-point tensors only.
struct Observed {
  std::vector<at::Tensor> carried;  // values at the ends of blocks (find_blocks); may be undefined
  std::vector<at::Tensor> outputs;
};

/// The soft plans of all sites. Linears that read the same codes share the parameters of their
/// input grid. `model` must outlive it.
class SoftModel {
 public:
  /// `plans` belong to some of `sites`, joined by path, in order of execution.
  SoftModel(const Model& model, const std::vector<Site>& sites, const std::vector<SitePlan>& plans);

  std::vector<Parameter> parameters() const;
  using Realized = std::vector<std::vector<at::Tensor>>;  // see SoftPlan::realize(), by plan
  Realized realize() const;

  Observed run_float(const std::vector<at::Tensor>& inputs) const { return run(inputs, nullptr); }
  Observed run_soft(const std::vector<at::Tensor>& inputs, const Realized& realized) const;
  /// Under the simulation of `plans`, which stand for those given in the constructor.
  Observed run_hard(const std::vector<at::Tensor>& inputs,
                    const std::vector<SitePlan>& plans) const;

  std::vector<SitePlan> harden() const;

 private:
  Observed run(const std::vector<at::Tensor>& inputs, const NodeHook& hook) const;

  const Model& model_;
  Schedule schedule_;
  std::vector<GraphBlock> blocks_;
  std::vector<const Site*> sites_;  // those of the plans
  std::vector<std::unique_ptr<SoftPlan>> soft_;
};

}  // namespace repquant
