#include "quantizer/norm_fold.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "quantizer/range_search.h"
#include "tensor/check.h"

namespace repquant {
namespace {

void check_grid(const AffineGrid& grid, const char* where) {
  require(grid.scale.dim() == 1 && grid.zero_point.sizes() == grid.scale.sizes() &&
              grid.scale.numel() > 0,
          where, "a grid with scale and zero point [C]");
  require_finite(grid.scale, where, "the scale");
  require_finite(grid.zero_point, where, "the zero point");
  require((grid.scale > 0).all().item<bool>(), where, "positive scales");
}

bool is_integral(const at::Tensor& values) { return at::equal(at::round(values), values); }

}  // namespace

AffineGrid FoldPlan::channel_grid() const {
  return {bits, (ratio.to(at::kDouble) * scale).to(at::kFloat), channel_zero_point};
}

FoldPlan plan_fold(const AffineGrid& channel_grid, double exponent, double target_scale) {
  check_grid(channel_grid, "plan_fold");
  require(exponent >= 0 && exponent <= 1, "plan_fold", "an exponent from 0 to 1");
  const at::Tensor scale = channel_grid.scale.to(at::kDouble);
  FoldPlan plan;
  plan.bits = channel_grid.bits;
  plan.scale = target_scale > 0 ? target_scale : scale.mean().item<double>();
  const at::Tensor ratio = (scale / plan.scale).pow(exponent);
  plan.ratio = ratio.to(at::kFloat);
  at::Tensor zero_point = channel_grid.zero_point.to(at::kDouble);
  if (exponent != 1) {
    // The step of channel c is now r_c s~, not s_c: keep the lower end, -s_c z_c.
    const bool integral = is_integral(zero_point);
    zero_point = zero_point * scale / (ratio * plan.scale);
    if (integral) zero_point = at::round(zero_point);
  }
  // Rounded and within the codes, else the layer-wise grid would not be an integer grid of
  // 2^bits levels (the published code keeps a fraction here).
  plan.zero_point = static_cast<int>(
      std::clamp(std::nearbyint(zero_point.mean().item<double>()), 0.0, (1 << plan.bits) - 1.0));
  plan.channel_zero_point = zero_point.to(at::kFloat);
  plan.shift = ((zero_point - plan.zero_point) * -plan.scale).to(at::kFloat);
  return plan;
}

FoldPlan search_fold(const AffineGrid& channel_grid, double exponent, const at::Tensor& x,
                     const at::Tensor& gram) {
  if (exponent == 1) return plan_fold(channel_grid);
  check_grid(channel_grid, "search_fold");
  const double mean = channel_grid.scale.to(at::kDouble).mean().item<double>();
  constexpr int kSteps = 12;
  constexpr double kStep = 0.25;  // octaves; from the mean / 2 up to four times the mean
  FoldPlan best;
  double best_error = std::numeric_limits<double>::infinity();
  for (int i = -4; i <= kSteps - 4; ++i) {
    FoldPlan plan = plan_fold(channel_grid, exponent, mean * std::exp2(kStep * i));
    const double error = output_error(x, fake_quantize(x, plan.channel_grid()), gram);
    if (error < best_error) {
      best_error = error;
      best = std::move(plan);
    }
  }
  return best;
}

FoldPlan plan_scale_fold(const AffineGrid& channel_grid, int zero_point) {
  check_grid(channel_grid, "plan_scale_fold");
  require(zero_point >= 0 && zero_point <= channel_grid.max_code(), "plan_scale_fold",
          "a zero point among the codes");
  FoldPlan plan = plan_fold(channel_grid);
  plan.zero_point = zero_point;
  plan.channel_zero_point = at::full_like(plan.ratio, static_cast<double>(zero_point));
  plan.shift = at::zeros_like(plan.ratio);
  return plan;
}

}  // namespace repquant
