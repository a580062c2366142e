// Row scales of a symmetric weight: squared-error search, and rounding to nearest.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/simd.h"

namespace repquant {

/// The values that codes of a weight may have.
struct WeightCodes {
  float low, high;            // both ends included
  std::vector<float> levels;  // rising whole numbers from low to high; empty: all there are

  bool symmetric() const { return low == -high; }
};

/// All 2^bits codes -2^(bits-1) .. 2^(bits-1) - 1. With 8 bits and one scale for the row without
/// the lowest: one code of 256 gains nothing, and the scale stays positive.
WeightCodes weight_codes(int bits, bool grouped);

/// These, rising, the first below and the last above 0.
WeightCodes with_levels(std::vector<float> levels);

/// nearest[i] = the code that is nearest to u[i], of two levels the lower one.
inline void nearest_lanes(const WeightCodes& codes, const float* u, float* nearest,
                          std::int64_t count) {
  if (codes.levels.empty()) {
    const float low = codes.low, high = codes.high;
    for (std::int64_t i = 0; i < count; ++i) nearest[i] = round_even(clamp_to(u[i], low, high));
    return;
  }
  // Counted up from the lowest level rather than looked up: it adds in vectors.
  for (std::int64_t i = 0; i < count; ++i) nearest[i] = codes.low;
  for (std::size_t t = 1; t < codes.levels.size(); ++t) {
    const float middle = (codes.levels[t - 1] + codes.levels[t]) / 2;
    const float step = codes.levels[t] - codes.levels[t - 1];
    for (std::int64_t i = 0; i < count; ++i) nearest[i] += u[i] > middle ? step : 0.0F;
  }
}

/// One row of a weight and what its columns weigh in the error (diag H).
struct WeightRow {
  const float* values;
  const float* importance;  // >= 0, one per column
  std::int64_t columns;
  const WeightCodes& codes;
};

/// Scale that maps the absolute maximum to the last code; 1 for a row of zeros. Positive where the
/// codes are symmetric, else of either sign: the widest weight then has the lowest code. (Of whole
/// numbers there is one more than above 0.)
float absolute_maximum_scale(const WeightRow& row);

/// Scale (of the same sign) with the smallest sum of importance * (w - s q)^2 among shrunk maxima
/// (coarse, then fine) and the closed-form optimum for the codes found, s = sum h w q / sum h q^2.
float search_row_scale(const WeightRow& row);

/// Nearest codes of a row, as float.
void nearest_codes(const WeightRow& row, float scale, float* codes);

}  // namespace repquant
