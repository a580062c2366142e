#include "gptq/compensation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>

#include "tensor/check.h"

namespace repquant {
namespace {

constexpr std::array<double, 2> kDampings = {0.01, 0.1};
// From four columns for each row on nothing is changed; measured in docs/decisions-accuracy.md.
constexpr double kColumnsPerRow = 4.0;

/// R (H + l I)^-1, or nothing where H cannot be factorized.
std::optional<at::Tensor> ridge(const ErrorMoments& moments, double damping) {
  at::Tensor damped = moments.hessian.clone();
  const double mean = damped.diagonal().mean().item<double>();
  if (!(mean > 0)) return std::nullopt;
  damped.diagonal().add_(damping * mean);
  const auto [lower, info] = at::linalg_cholesky_ex(damped);
  if (info.item<int>() != 0) return std::nullopt;
  return at::cholesky_solve(moments.cross.t(), lower).t().contiguous();
}

double product_sum(const at::Tensor& a, const at::Tensor& b) {
  return (a * b).sum().item<double>();
}

}  // namespace

WeightChange compensate(const std::array<ErrorMoments, 2>& halves, double rows) {
  constexpr const char* kWhere = "compensate";
  for (const ErrorMoments& half : halves) {
    require(half.hessian.dim() == 2 && half.cross.dim() == 2 &&
                half.hessian.size(0) == half.hessian.size(1) &&
                half.cross.size(1) == half.hessian.size(0),
            kWhere, "a Hessian [K, K] and a cross moment [N, K]");
    require_finite(half.hessian, kWhere, "the Hessian");
    require_finite(half.cross, kWhere, "the cross moment");
  }
  WeightChange best{at::zeros_like(halves[0].cross), 0.0, 0.0};
  const auto columns = static_cast<double>(halves[0].hessian.size(0));
  const double trust = std::max(0.0, 1.0 - columns / std::max(1.0, kColumnsPerRow * rows));
  if (trust == 0.0) return best;  // before anything is factorized
  double best_gain = 0.0;
  for (const double damping : kDampings) {
    double projection = 0.0, energy = 0.0;
    bool solved = true;
    for (std::size_t half = 0; half < 2 && solved; ++half) {
      const std::optional<at::Tensor> change = ridge(halves[half], damping);
      solved = change.has_value();
      if (!solved) break;
      const ErrorMoments& other = halves[1 - half];
      projection += product_sum(*change, other.cross);
      energy += product_sum(at::mm(*change, other.hessian), *change);
    }
    if (!solved || !(projection > 0) || !(energy > 0)) continue;
    const double strength = std::min(1.0, projection / energy);
    const double gain = strength * (2 * projection - strength * energy);
    if (gain <= best_gain) continue;
    best_gain = gain;
    best.strength = strength;
    best.damping = damping;
  }
  if (best.strength == 0.0) return best;
  best.strength *= trust;
  const ErrorMoments all{halves[0].hessian + halves[1].hessian, halves[0].cross + halves[1].cross};
  const std::optional<at::Tensor> change = ridge(all, best.damping);
  if (!change) return {at::zeros_like(halves[0].cross), 0.0, 0.0};
  best.change = *change * best.strength;
  return best;
}

}  // namespace repquant
