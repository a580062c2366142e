// Site plans with parameters that can be learned: the simulation of plan/simulate.h, value for
// value, with straight-through gradients (arXiv 1308.3432) for every rounding.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "plan/site_plan.h"

namespace repquant {

/// One parameter and its learning rate (Adam), in the units it is kept in.
struct Parameter {
  at::Tensor value;  // float32, a leaf that requires a gradient
  double rate = 0.0;
};

/// A plan with learnable copies of its numbers. Integer facts (zero points, bits, forms, side
/// columns) stay as they are, so the hardened plan lowers as the given one does.
///  Linear: log factors of row scales, bias, log multiplier and offset of an input grid per
///  channel; log multiplier of one per tensor; nothing of one per token, whose gradient is that of
///  the input. Operands: log scales.
class SoftPlan {
 public:
  /// `same_input`: the soft plan that owns the input grid which this one shares; or null.
  /// `fixed_offset`: the offsets of the input grid stay (zeros that padding inserts must mean
  /// zero).
  SoftPlan(const SitePlan& plan, const SoftPlan* same_input, bool fixed_offset);

  /// What evaluate() reads, as differentiable functions of the parameters: Linear {weight times
  /// scales [N, K], bias [N], and but for a grid per token multiplier, offset}, scores {left scale,
  /// right scale}, attend {value scale}. Made once for many evaluations.
  std::vector<at::Tensor> realize() const;
  /// The site's output from its operands ({x}, {left, right} or {scores, value}).
  at::Tensor evaluate(const std::vector<at::Tensor>& operands,
                      const std::vector<at::Tensor>& realized) const;
  /// The plan with the learned numbers.
  SitePlan harden() const;
  /// Its own ones: those of a shared input grid belong to the first plan.
  const std::vector<Parameter>& parameters() const { return parameters_; }

 private:
  void start_linear(const LinearPlan& plan, const SoftPlan* same_input, bool fixed_offset);
  at::Tensor row_scale(const LinearPlan& plan) const;
  at::Tensor learn(const at::Tensor& start, double rate);

  SitePlan plan_;
  std::vector<Parameter> parameters_;
  // Linear
  at::Tensor log_row_factor_, bias_, log_multiplier_, offset_;
  // Operands
  at::Tensor log_left_, log_right_;
};

}  // namespace repquant
