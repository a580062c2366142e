#include "fit/head_room.h"

#include <ATen/ATen.h>

#include <array>
#include <limits>

namespace repquant {
namespace {

// Not 2: it would put the ends of one-sided data on ties, 255 / 2 steps from zero.
constexpr std::array<double, 5> kFactors = {1.0, 1.1, 1.25, 1.5, 1.9};

}  // namespace

Bounds bounds_of(const AffineGrid& grid) {
  return {-grid.zero_point * grid.scale,
          (static_cast<double>(grid.max_code()) - grid.zero_point) * grid.scale};
}

Bounds widened(const Bounds& bounds, const at::Tensor& centre, double factor) {
  if (factor == 1.0) return bounds;
  const at::Tensor inside = at::minimum(at::maximum(centre, bounds.lower), bounds.upper);
  return {inside - (inside - bounds.lower) * factor, inside + (bounds.upper - inside) * factor};
}

Bounds with_reproducible_steps(const Bounds& bounds, int bits) {
  constexpr double kLeastStep = 1.0 / 2048;  // of the largest value
  const double max_code = (1 << bits) - 1;
  const at::Tensor range = bounds.upper - bounds.lower;
  const at::Tensor least = at::maximum(bounds.lower.abs(), bounds.upper.abs()) * kLeastStep;
  const at::Tensor too_fine = range.gt(0).logical_and_(range.lt(least * max_code));
  const at::Tensor below = at::round((max_code - range / least.clamp_min(1e-30)) / 2);
  const at::Tensor lower = bounds.lower - below * least;
  return {at::where(too_fine, lower, bounds.lower),
          at::where(too_fine, lower + max_code * least, bounds.upper)};
}

double choose_head_room(const std::function<double(double)>& held_out_error) {
  double best = 1.0, least = std::numeric_limits<double>::infinity();
  for (const double factor : kFactors) {
    const double error = held_out_error(factor);
    if (error >= least) continue;
    least = error;
    best = factor;
  }
  return best;
}

}  // namespace repquant
