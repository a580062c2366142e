// A whole quantized model with parameters that can be learned.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "graph/model.h"
#include "graph/site.h"
#include "graph/walker.h"
#include "plan/site_plan.h"
#include "sweep/blocks.h"
#include "sweep/soft_plan.h"

namespace repquant {

/// What the values at the ends of blocks (find_blocks) should be; both may hold undefined tensors.
struct Expected {
  std::vector<at::Tensor> carried;  // [.., T, N]
  std::vector<at::Tensor> weights;  // [.., T, 1], mean 1
};

/// The soft plans of some sites; the others stay in floating point. Linears that read the same
/// codes share the parameters of their input grid. `model` must outlive it.
class SoftModel {
 public:
  /// `plans` belong to some of `sites`, joined by path, in order of execution.
  SoftModel(const Model& model, const std::vector<Site>& sites, const std::vector<SitePlan>& plans);

  std::vector<Parameter> parameters() const;
  using Realized = std::vector<std::vector<at::Tensor>>;  // see SoftPlan::realize(), by plan
  Realized realize() const;

  /// The floating-point values at the ends of blocks, and what their rows count for: each row of
  /// the values counts by the gradient of a random projection of the outputs (`seed`), as in
  /// sensitivity.h. Throws c10::Error or Error for a model that cannot be differentiated.
  Expected run_float(const std::vector<at::Tensor>& inputs, std::uint64_t seed) const;
  /// The values at the ends of blocks; undefined where one is no floating-point tensor. No gradient
  /// passes from a block to the one before: each is learned by its own output. The last block is
  /// not run.
  std::vector<at::Tensor> run_soft(const std::vector<at::Tensor>& inputs,
                                   const Realized& realized) const;
  /// The same under the simulation of `plans`, which stand for those given in the constructor (or
  /// none, for floating point).
  std::vector<at::Tensor> run_hard(const std::vector<at::Tensor>& inputs,
                                   const std::vector<SitePlan>& plans) const;

  std::vector<SitePlan> harden() const;

 private:
  std::vector<at::Tensor> run(const std::vector<at::Tensor>& inputs, const NodeHook& hook) const;

  const Model& model_;
  Schedule schedule_;
  std::vector<GraphBlock> blocks_;
  std::vector<const Site*> sites_;  // those of the plans
  std::vector<std::unique_ptr<SoftPlan>> soft_;
};

}  // namespace repquant
