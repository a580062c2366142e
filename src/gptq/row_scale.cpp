#include "gptq/row_scale.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace repquant {
namespace {

// The sums that the error of a scale and its closed-form refit need.
struct CodeSums {
  double error = 0;   // sum h (w - s q)^2
  double cross = 0;   // sum h w q
  double square = 0;  // sum h q^2
};

REPQUANT_SIMD CodeSums code_sums(const WeightRow& row, float scale) {
  float error[kLanes] = {};
  float cross[kLanes] = {};
  float square[kLanes] = {};
  const float inverse = 1.0F / scale;
  for (std::int64_t k = 0; k < row.columns; k += kLanes) {
    const std::int64_t count = row.columns - k < kLanes ? row.columns - k : kLanes;
    float w[kLanes] = {}, h[kLanes] = {}, u[kLanes], q[kLanes];
    for (std::int64_t lane = 0; lane < count; ++lane) {
      w[lane] = row.values[k + lane];
      h[lane] = row.importance[k + lane];
    }
    for (std::int64_t lane = 0; lane < kLanes; ++lane) u[lane] = w[lane] * inverse;
    nearest_lanes(row.codes, u, q, kLanes);
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const float difference = w[lane] - scale * q[lane];
      error[lane] += h[lane] * difference * difference;
      cross[lane] += h[lane] * w[lane] * q[lane];
      square[lane] += h[lane] * q[lane] * q[lane];
    }
  }
  return {sum_lanes(error), sum_lanes(cross), sum_lanes(square)};
}

}  // namespace

WeightCodes weight_codes(int bits, bool grouped) {
  const auto half = static_cast<float>(1 << (bits - 1));
  return {bits == 8 && !grouped ? 1 - half : -half, half - 1, {}};
}

WeightCodes with_levels(std::vector<float> levels) {
  return {levels.front(), levels.back(), std::move(levels)};
}

float absolute_maximum_scale(const WeightRow& row) {
  float widest = 0;
  for (std::int64_t k = 0; k < row.columns; ++k) {
    if (std::abs(row.values[k]) > std::abs(widest)) widest = row.values[k];
  }
  const float scale =
      row.codes.symmetric() ? std::abs(widest) / row.codes.high : widest / row.codes.low;
  // Denormal scales have no finite inverse.
  return std::abs(scale) >= std::numeric_limits<float>::min() ? scale : 1.0F;
}

float search_row_scale(const WeightRow& row) {
  const float full = absolute_maximum_scale(row);
  float best = full;
  double best_error = std::numeric_limits<double>::infinity();
  const auto consider = [&](float scale) {
    const CodeSums sums = code_sums(row, scale);
    if (sums.error < best_error) {
      best_error = sums.error;
      best = scale;
    }
    return sums;
  };
  constexpr int kCoarseSteps = 24;
  constexpr float kCoarse = 0.035F;  // down to 0.2 of the maximum, where heavy tails want it
  double of_full = 0;
  for (int i = 0; i < kCoarseSteps; ++i) {
    const double error = consider(full * (1.0F - kCoarse * static_cast<float>(i))).error;
    if (i == 0) of_full = error;
    // What is cut off only grows from here, and has passed what rounding loses.
    if (error > 2 * (of_full + best_error)) break;
  }
  const float centre = best;
  constexpr int kFineSteps = 3;
  for (int i = -kFineSteps; i <= kFineSteps; ++i) {
    if (i != 0) consider(centre + full * kCoarse * static_cast<float>(i) / (kFineSteps + 1));
  }
  constexpr int kRefits = 2;
  for (int i = 0; i < kRefits; ++i) {
    const CodeSums sums = code_sums(row, best);
    if (!(sums.square > 0 && sums.cross / best > 0)) break;
    const auto refit = static_cast<float>(sums.cross / sums.square);
    if (!(std::abs(refit) >= std::numeric_limits<float>::min())) break;
    consider(refit);
  }
  return best;
}

REPQUANT_SIMD void nearest_codes(const WeightRow& row, float scale, float* codes) {
  for (std::int64_t k = 0; k < row.columns; k += kLanes) {
    const std::int64_t count = row.columns - k < kLanes ? row.columns - k : kLanes;
    float u[kLanes];
    for (std::int64_t i = 0; i < count; ++i) u[i] = row.values[k + i] / scale;
    nearest_lanes(row.codes, u, codes + k, count);
  }
}

}  // namespace repquant
