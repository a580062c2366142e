#include "quantizer/kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tensor/simd.h"

// Every loop runs over whole groups of lanes and then over the rest; lane sums keep the order of
// additions fixed, whatever instruction set is chosen.
#define REPQUANT_FOR_LANES(count, i, lane, ...)                   \
  do {                                                            \
    std::int64_t base_ = 0;                                       \
    for (; base_ + kLanes <= (count); base_ += kLanes) {          \
      for (std::int64_t lane = 0; lane < kLanes; ++lane) {        \
        const std::int64_t i = base_ + lane;                      \
        __VA_ARGS__                                               \
      }                                                           \
    }                                                             \
    for (std::int64_t lane = 0; base_ + lane < (count); ++lane) { \
      const std::int64_t i = base_ + lane;                        \
      __VA_ARGS__                                                 \
    }                                                             \
  } while (false)

namespace repquant {
namespace {

// x^ - x. `inverse` is 1 / scale: a value within rounding of the middle between two levels may go
// to the other one, which does not change the error.
inline float error_of(const LineGrid& grid, float inverse, float x) {
  const float k = round_even(clamp_to(x * inverse + grid.fraction, grid.low, grid.high));
  return grid.scale * (k - grid.fraction) - x;
}

// The nearest level: sqrt of the rounded, shifted value, rounded (quadratic.h).
inline float quadratic_error_of(float scale, float inverse, float zero, float top, float x) {
  const float u = round_even(clamp_to(x * inverse, -zero, top * top - zero)) + zero;
  const float q = round_even(std::sqrt(u));
  return scale * (q * q - zero) - x;
}

}  // namespace

LineGrid line_grid(double lower, double upper, int bits, bool integer_zero_point) {
  const double max_code = (1 << bits) - 1;
  const double magnitude = std::max(std::abs(lower), std::abs(upper));
  double scale = (upper - lower) / max_code;
  if (scale * max_code <= magnitude / 65536.0) scale = magnitude > 0 ? magnitude : 1.0;
  const double exact = -lower / scale;
  double whole = std::nearbyint(exact);
  const double fraction = integer_zero_point ? 0 : exact - whole;
  if (lower <= 0 && upper >= 0) whole = std::clamp(whole, 0.0, max_code);
  return {static_cast<float>(scale), static_cast<float>(fraction), static_cast<float>(-whole),
          static_cast<float>(max_code - whole)};
}

REPQUANT_SIMD double squared_error(const LineGrid& grid, const float* x, std::int64_t count) {
  const float inverse = 1.0F / grid.scale;
  float sums[kLanes] = {};
  REPQUANT_FOR_LANES(count, i, lane, {
    const float error = error_of(grid, inverse, x[i]);
    sums[lane] += error * error;
  });
  return sum_lanes(sums);
}

REPQUANT_SIMD void quantization_error(const LineGrid& grid, const float* x, float* error,
                                      std::int64_t count) {
  const float inverse = 1.0F / grid.scale;
  for (std::int64_t i = 0; i < count; ++i) error[i] = error_of(grid, inverse, x[i]);
}

REPQUANT_SIMD double squared_error(float scale, float zero_point, float max_code, const float* x,
                                   std::int64_t count) {
  const float inverse = 1.0F / scale;
  float sums[kLanes] = {};
  REPQUANT_FOR_LANES(count, i, lane, {
    const float error = quadratic_error_of(scale, inverse, zero_point, max_code, x[i]);
    sums[lane] += error * error;
  });
  return sum_lanes(sums);
}

REPQUANT_SIMD void quantization_error(float scale, float zero_point, float max_code, const float* x,
                                      float* error, std::int64_t count) {
  const float inverse = 1.0F / scale;
  for (std::int64_t i = 0; i < count; ++i) {
    error[i] = quadratic_error_of(scale, inverse, zero_point, max_code, x[i]);
  }
}

REPQUANT_SIMD ChangeSums change_sums(const LineGrid& grid, const float* x, const float* error,
                                     const float* e, std::int64_t count) {
  const float inverse = 1.0F / grid.scale;
  float product[kLanes] = {};
  float square[kLanes] = {};
  float sum[kLanes] = {};
  REPQUANT_FOR_LANES(count, i, lane, {
    const float change = error_of(grid, inverse, x[i]) - error[i];
    product[lane] += change * e[i];
    square[lane] += change * change;
    sum[lane] += change;
  });
  return {sum_lanes(product), sum_lanes(square), sum_lanes(sum)};
}

REPQUANT_SIMD GradientSums gradient_sums(const LineGrid& grid, const float* x, const float* e,
                                         std::int64_t count) {
  const float inverse = 1.0F / grid.scale;
  float below[kLanes] = {};
  float above[kLanes] = {};
  float inside[kLanes] = {};
  REPQUANT_FOR_LANES(count, i, lane, {
    const float t = x[i] * inverse + grid.fraction;
    const float error = error_of(grid, inverse, x[i]);
    below[lane] += t < grid.low ? e[i] : 0.0F;
    above[lane] += t > grid.high ? e[i] : 0.0F;
    inside[lane] += t < grid.low || t > grid.high ? 0.0F : e[i] * error;
  });
  return {sum_lanes(below), sum_lanes(above), sum_lanes(inside)};
}

REPQUANT_SIMD Ends ends_of(const float* x, const float* multiplier, const float* offset,
                           std::int64_t count) {
  float lows[kLanes], highs[kLanes];
  std::fill_n(lows, kLanes, std::numeric_limits<float>::infinity());
  std::fill_n(highs, kLanes, -std::numeric_limits<float>::infinity());
  REPQUANT_FOR_LANES(count, i, lane, {
    const float value = multiplier[i] * x[i] + offset[i];
    lows[lane] = value < lows[lane] ? value : lows[lane];
    highs[lane] = value > highs[lane] ? value : highs[lane];
  });
  Ends ends;
  ends.low = *std::min_element(lows, lows + kLanes);
  ends.high = *std::max_element(highs, highs + kLanes);
  const auto place_of = [&](float wanted, const float* of_lanes) {
    std::int64_t i = std::find(of_lanes, of_lanes + kLanes, wanted) - of_lanes;
    while (i + kLanes < count && multiplier[i] * x[i] + offset[i] != wanted) i += kLanes;
    return std::min(i, count - 1);
  };
  ends.low_at = place_of(ends.low, lows);
  ends.high_at = place_of(ends.high, highs);
  return ends;
}

REPQUANT_SIMD void add_scaled(float* target, const float* source, float coefficient,
                              std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) target[i] += coefficient * source[i];
}

REPQUANT_SIMD double sum_of_squares(const float* x, std::int64_t count) {
  float sums[kLanes] = {};
  REPQUANT_FOR_LANES(count, i, lane, { sums[lane] += x[i] * x[i]; });
  return sum_lanes(sums);
}

REPQUANT_SIMD double sum_of(const float* x, std::int64_t count) {
  float sums[kLanes] = {};
  REPQUANT_FOR_LANES(count, i, lane, { sums[lane] += x[i]; });
  return sum_lanes(sums);
}

REPQUANT_SIMD double dot(const float* a, const float* b, std::int64_t count) {
  float sums[kLanes] = {};
  REPQUANT_FOR_LANES(count, i, lane, { sums[lane] += a[i] * b[i]; });
  return sum_lanes(sums);
}

}  // namespace repquant
