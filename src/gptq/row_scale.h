// Row scales of a symmetric weight: squared-error search, and rounding to nearest.
#pragma once

#include <cstdint>

namespace repquant {

/// One row of a weight and what its columns weigh in the error (diag H).
struct WeightRow {
  const float* values;
  const float* importance;  // >= 0, one per column
  std::int64_t columns;
  float max_code;           // codes are -max_code .. max_code
  bool full_range = false;  // the code -(max_code + 1) is used too

  float min_code() const { return full_range ? -max_code - 1.0F : -max_code; }
};

/// Scale that maps the absolute maximum to the last code; 1 for a row of zeros. Positive, or with
/// the full range of either sign: the widest weight then has the code -(max_code + 1).
float absolute_maximum_scale(const WeightRow& row);

/// Scale (of the same sign) with the smallest sum of importance * (w - s q)^2 among shrunk maxima
/// (coarse, then fine) and the closed-form optimum for the codes found, s = sum h w q / sum h q^2.
float search_row_scale(const WeightRow& row);

/// Nearest codes of a row, as float.
void nearest_codes(const WeightRow& row, float scale, float* codes);

}  // namespace repquant
