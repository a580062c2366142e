// Site plans with parameters that can be learned: the simulation of plan/simulate.h, value for
// value, with straight-through gradients (arXiv 1308.3432) for every rounding.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "plan/site_plan.h"

namespace repquant {

/// One parameter and its learning rate (Adam), relative to the units it is kept in.
struct Parameter {
  at::Tensor value;  // a leaf that requires a gradient
  double rate = 0.0;
};

/// A plan with learnable copies of its numbers. Integer facts (zero points, bits, forms, side
/// columns) stay as they are, so the hardened plan lowers as the given one does.
///  Linear: weight codes (continuous), log row scales, bias, log multiplier and offset of an input
///  grid per channel; log multiplier of one per tensor. Operands: log scales.
class SoftPlan {
 public:
  /// `frozen_input`: the input grid is shared with other sites and stays.
  SoftPlan(const SitePlan& plan, bool frozen_input);

  /// The site's output from its operands ({x}, {left, right} or {scores, value}).
  at::Tensor evaluate(const std::vector<at::Tensor>& operands) const;
  /// The plan with the learned numbers, weights rounded.
  SitePlan harden() const;
  const std::vector<Parameter>& parameters() const { return parameters_; }

 private:
  at::Tensor soft_codes(const LinearPlan& plan) const;
  at::Tensor learn(const at::Tensor& start, double rate);

  SitePlan plan_;
  std::vector<Parameter> parameters_;
  // Linear
  at::Tensor codes_, log_row_scale_, bias_, log_multiplier_, offset_;
  // Operands
  at::Tensor log_left_, log_right_;
};

}  // namespace repquant
