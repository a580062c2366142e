// Fits the input grid, the fold and the weight of one Linear site.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "graph/site.h"
#include "plan/site_plan.h"
#include "repquant/recipe.h"

namespace repquant {

/// Everything the fit of a Linear needs, besides the recipe.
struct LinearFitInput {
  const Site* site = nullptr;
  std::vector<at::Tensor> x;        // quantized stream: the site's input, one [.., K] per batch
  std::vector<at::Tensor> x_float;  // the same in the floating-point stream; or empty
  /// Where the output is added to a residual: what the residual lacks, one [.., N] per batch
  /// (floating-point minus quantized stream); else empty.
  std::vector<at::Tensor> residual_error;
  at::Tensor row_weights;  // float64 [rows], what rows count, mean 1; or undefined
  at::Tensor gram;         // [K, K]: sum of W^T D W over all consumers of the same norm
  const InputQuantizer* shared = nullptr;  // already fitted by another consumer of the same norm
  /// Codes and scales of a weight that other Linears read too; else null. The input then gets one
  /// grid per tensor and no side columns.
  const QuantizedWeight* rounded = nullptr;
  int weight_bits = 8;
  int activation_bits = 8;
  int threads = 1;
};

/// Fits and returns the plan; `note` gets what was decided. Throws Error kNumerical (naming the
/// site) for non-finite inputs.
LinearPlan fit_linear(const LinearFitInput& in, const Recipe& recipe, std::string& note);

/// A plan in words: "per channel; gptq".
std::string describe(const LinearPlan& plan);

/// What side columns (not none) add to the output for rows x [n, K]: [n, N].
at::Tensor side_output(const at::Tensor& x, const SideColumns& side);

/// Throws Error kNumerical, naming the site, if x is not finite.
void require_finite(const at::Tensor& x, const std::string& path);

/// The rest of a weight-only fit, from sums over all rows: the Hessian [K, K], centred with
/// weights.bias_correction, and the mean [K] of the inputs, both float64.
LinearPlan fit_weight_only(const LinearFitInput& in, const at::Tensor& hessian,
                           const at::Tensor& mean, const Recipe& recipe);

/// r and b of the fold that an input quantizer realises: r = 1 / (m s), b = s (z - a).
struct ChannelFold {
  at::Tensor ratio;  // [K] or [1]
  at::Tensor shift;  // [K] or [1]
};
ChannelFold fold_of(const InputQuantizer& quantizer);

/// W diag(r) and bias + W diag(r) b: the Linear that follows the folded norm. bias may be
/// undefined.
struct FoldedLinear {
  at::Tensor weight;  // [N, K]
  at::Tensor bias;    // [N]
};
FoldedLinear folded_linear(const at::Tensor& weight, const at::Tensor& bias,
                           const ChannelFold& fold);

}  // namespace repquant
