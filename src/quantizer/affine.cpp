#include "quantizer/affine.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tensor/check.h"

namespace repquant {
namespace {

constexpr float kConstantShare = 1.0F / 65536.0F;

// What is smaller counts as zero: a scale made of it has no reciprocal in float32, or none that can
// be multiplied with anything.
constexpr float kSmallestEnd = 1e-30F;

float end_of(float value) { return std::abs(value) < kSmallestEnd ? 0.0F : value; }

bool is_constant(float lower, float upper) {
  return upper - lower <= kConstantShare * std::max(std::abs(lower), std::abs(upper));
}

// The scale that constant channels should be near to: folding divides by it, so it must not stick
// out among its neighbours. 0 if there is no other channel.
float median_scale(std::vector<float> scales) {
  if (scales.empty()) return 0;
  const auto middle = scales.begin() + static_cast<std::ptrdiff_t>(scales.size() / 2);
  std::nth_element(scales.begin(), middle, scales.end());
  return *middle;
}

// A scale near `reference` that divides the constant, so that it is a level.
float constant_scale(float value, float reference) {
  const float magnitude = std::abs(value);
  if (magnitude == 0) return reference > 0 ? reference : 1.0F;
  if (reference <= 0) return magnitude;
  // Zero points beyond this are not exact in float32 sums.
  constexpr float kMostSteps = 65536.0F;
  return magnitude / std::clamp(std::nearbyint(magnitude / reference), 1.0F, kMostSteps);
}

}  // namespace

AffineGrid affine_grid(const at::Tensor& lower, const at::Tensor& upper, int bits,
                       bool integer_zero_point) {
  require(bits >= 2 && bits <= 8, "affine_grid", "bits from 2 to 8");
  require(lower.sizes() == upper.sizes(), "affine_grid", "lower and upper of one shape");
  require_finite(lower, "affine_grid", "the lower range");
  require_finite(upper, "affine_grid", "the upper range");
  const at::Tensor low = lower.to(at::kFloat).contiguous();
  const at::Tensor high = upper.to(at::kFloat).contiguous();
  const at::Tensor scale = at::empty_like(low);
  const at::Tensor zero_point = at::empty_like(low);
  const auto count = static_cast<std::size_t>(low.numel());
  std::vector<float> lo(count), hi(count);
  std::transform(low.const_data_ptr<float>(), low.const_data_ptr<float>() + count, lo.begin(),
                 end_of);
  std::transform(high.const_data_ptr<float>(), high.const_data_ptr<float>() + count, hi.begin(),
                 end_of);
  auto* s = scale.data_ptr<float>();
  auto* z = zero_point.data_ptr<float>();
  const auto max_code = static_cast<float>((1 << bits) - 1);

  std::vector<float> varying;
  varying.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (lo[i] > hi[i]) {
      throw Error(ErrorKind::kNumerical, {"a range has its lower end above its upper end",
                                          "affine_grid", "lower <= upper", "", ""});
    }
    if (!is_constant(lo[i], hi[i])) varying.push_back(hi[i] / max_code - lo[i] / max_code);
  }
  const float reference = median_scale(std::move(varying));
  for (std::size_t i = 0; i < count; ++i) {
    float from = lo[i];
    if (is_constant(lo[i], hi[i])) {
      const float value = lo[i] + (hi[i] - lo[i]) / 2;
      s[i] = constant_scale(value, reference);
      // 0 and the constant are both codes if they are close enough together.
      from = std::min(value, std::max(0.0F, value - max_code * s[i]));
    } else {
      s[i] = hi[i] / max_code - lo[i] / max_code;
    }
    const float exact = -from / s[i];
    z[i] = integer_zero_point ? std::nearbyint(exact) : exact;
    if (lo[i] <= 0 && hi[i] >= 0) z[i] = std::clamp(z[i], 0.0F, max_code);
  }
  return {bits, scale, zero_point};
}

// The zero point enters in two parts: the integral one after rounding, as the definition has it,
// and the fractional one (real offsets) before, where it is part of the value to be rounded.
at::Tensor quantize(const at::Tensor& x, const AffineGrid& grid) {
  const at::Tensor whole = at::round(grid.zero_point);
  const at::Tensor fraction = grid.zero_point - whole;
  return at::div(x, grid.scale).add_(fraction).round_().add_(whole).clamp_(0, grid.max_code());
}

at::Tensor dequantize(const at::Tensor& codes, const AffineGrid& grid) {
  return at::sub(codes, grid.zero_point).mul_(grid.scale);
}

at::Tensor fake_quantize(const at::Tensor& x, const AffineGrid& grid) {
  return dequantize(quantize(x, grid), grid);
}

}  // namespace repquant
