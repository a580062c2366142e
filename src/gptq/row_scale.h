// Row scales of a symmetric weight: squared-error search, and rounding to nearest.
#pragma once

#include <cstdint>

namespace repquant {

/// The codes of a weight of 2 to 8 bits, both ends included.
struct CodeRange {
  float low, high;

  bool symmetric() const { return low == -high; }
};

/// All 2^bits codes -2^(bits-1) .. 2^(bits-1) - 1. With 8 bits and one scale for the row without
/// the lowest: one code of 256 gains nothing, and the scale stays positive.
CodeRange weight_codes(int bits, bool grouped);

/// One row of a weight and what its columns weigh in the error (diag H).
struct WeightRow {
  const float* values;
  const float* importance;  // >= 0, one per column
  std::int64_t columns;
  CodeRange codes;
};

/// Scale that maps the absolute maximum to the last code; 1 for a row of zeros. Positive where the
/// codes are symmetric, else of either sign: the widest weight then has the lowest code, of which
/// there is one more than above 0.
float absolute_maximum_scale(const WeightRow& row);

/// Scale (of the same sign) with the smallest sum of importance * (w - s q)^2 among shrunk maxima
/// (coarse, then fine) and the closed-form optimum for the codes found, s = sum h w q / sum h q^2.
float search_row_scale(const WeightRow& row);

/// Nearest codes of a row, as float.
void nearest_codes(const WeightRow& row, float scale, float* codes);

}  // namespace repquant
