// Inner loops of the searches: quantization errors of runs of values under one affine grid.
#pragma once

#include <cstdint>

namespace repquant {

/// One affine grid in the form the loops need. The levels are scale * (k - fraction) for integers k
/// in [low, high], where fraction is the fractional part of a real zero point (else 0).
struct LineGrid {
  float scale = 1;
  float fraction = 0;
  float low = 0;
  float high = 255;
};

/// The grid of [lower, upper] as affine_grid() in affine.h defines it, for ranges that are not
/// constant; constant ranges get the magnitude as their scale.
LineGrid line_grid(double lower, double upper, int bits, bool integer_zero_point);

/// sum (x^ - x)^2
double squared_error(const LineGrid& grid, const float* x, std::int64_t count);

/// error[i] = x^ - x
void quantization_error(const LineGrid& grid, const float* x, float* error, std::int64_t count);

/// The same for the quadratic grid x^ = s (q^2 - z), q <= max_code.
double squared_error(float scale, float zero_point, float max_code, const float* x,
                     std::int64_t count);
void quantization_error(float scale, float zero_point, float max_code, const float* x, float* error,
                        std::int64_t count);

/// How an error metric changes when one column's error d becomes d': the sums over rows of
/// (d' - d) e, (d' - d)^2 and (d' - d).
struct ChangeSums {
  double product = 0;
  double square = 0;
  double sum = 0;
};
ChangeSums change_sums(const LineGrid& grid, const float* x, const float* error, const float* e,
                       std::int64_t count);

/// The sums over values of the output gradient e: where x lies below or above the grid, and,
/// inside, weighted with the rounding error x^ - x.
struct GradientSums {
  double below = 0;
  double above = 0;
  double inside = 0;
};
GradientSums gradient_sums(const LineGrid& grid, const float* x, const float* e,
                           std::int64_t count);

/// The ends of multiplier[i] * x[i] + offset[i], and for each an i that has it; count > 0.
struct Ends {
  float low = 0, high = 0;
  std::int64_t low_at = 0, high_at = 0;
};
Ends ends_of(const float* x, const float* multiplier, const float* offset, std::int64_t count);

/// target += coefficient * source
void add_scaled(float* target, const float* source, float coefficient, std::int64_t count);

double sum_of_squares(const float* x, std::int64_t count);
double sum_of(const float* x, std::int64_t count);
double dot(const float* a, const float* b, std::int64_t count);

}  // namespace repquant
