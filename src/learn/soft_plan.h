// Site plans whose weights can be learned: the simulation of plan/simulate.h, value for value but
// for the order of float32 sums, with straight-through gradients (arXiv 1308.3432) for every
// rounding.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "plan/site_plan.h"

namespace repquant {

/// A tensor that is learned.
struct Parameter {
  at::Tensor value;   // float32, a leaf that requires a gradient
  double rate = 0.0;  // of Adam, in the units of the value
  double low, high;   // what the value stays within
};

/// A plan with learnable numbers: of a Linear the weight before it is rounded (in units of its row
/// scales, so that the codes are those nearest to it), a factor of each row and the bias. Grids of
/// inputs and operands, levels and side columns stay as they are, and other kinds of sites learn
/// nothing, but errors behind them reach the sites in front.
class SoftPlan {
 public:
  /// `same_weight`: the soft plan of a Linear with the same weight, which is rounded and stored
  /// once; or null. `rate`: how far Adam moves a weight in a step, in distances between its codes.
  SoftPlan(const SitePlan& plan, const SoftPlan* same_weight, double rate);

  /// What evaluate() reads, as differentiable functions of the parameters, made once for many
  /// evaluations: of a Linear the weight times its scales [N, K] and the bias [N].
  std::vector<at::Tensor> realize() const;
  /// The site's output from its operands ({x}, {left, right}, {scores, value} or {indices}).
  at::Tensor evaluate(const std::vector<at::Tensor>& operands,
                      const std::vector<at::Tensor>& realized) const;
  /// The plan with the learned numbers.
  SitePlan harden() const;
  /// Its own ones: those of a shared weight belong to the first plan.
  const std::vector<Parameter>& parameters() const { return parameters_; }

 private:
  at::Tensor learn(const at::Tensor& start, double rate, double low, double high);
  at::Tensor codes() const;  // float32 [N, K], the nearest ones

  SitePlan plan_;
  std::vector<Parameter> parameters_;
  at::Tensor values_;      // of codes, float32, rising
  at::Tensor latent_;      // [N, K]
  at::Tensor row_factor_;  // [N, 1]
  at::Tensor bias_;        // [N]
  at::Tensor learned_;     // columns that are, float32 [K] of 0 and 1; undefined: all
};

}  // namespace repquant
