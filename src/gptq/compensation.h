// Linear compensation: the change of a weight that makes up for errors of its input.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>

namespace repquant {

/// Sums over one half of the calibration rows, double.
struct ErrorMoments {
  at::Tensor hessian;  // [K, K]: sum x^ x^^T of the quantized input
  at::Tensor cross;    // [N, K]: sum e x^^T, e = target - W x^
};

struct WeightChange {
  at::Tensor change;      // double [N, K]
  double strength = 0.0;  // a, 0..1; 0: nothing that carries over from one half to the other
  double damping = 0.0;   // share of mean(diag H) added to the diagonal
};

/// The ridge regression of the error on the input, dW = a R (H + l I)^-1 (the asymmetric target of
/// GPTAQ, arXiv 2504.02692, and ERQ, 2407.06794), where a and l are chosen by cross-validation: the
/// change fitted on one half of the rows lowers the squared error on the other half by
/// 2 a tr(dW R^T) - a^2 tr(dW H dW^T), which is largest at a = tr(dW R^T) / tr(dW H dW^T).
/// All of it shrinks by 1 - K / (4 rows), to nothing for few rows: sites before this one were
/// fitted on the same rows, so their errors there are smaller and more regular than on other data,
/// which no half can tell. `rows`: what both halves count for (effective_rows() where weighted).
/// Throws Error(kInternal) for wrong shapes, Error(kNumerical) for non-finite sums.
WeightChange compensate(const std::array<ErrorMoments, 2>& halves, double rows);

}  // namespace repquant
