// The quadratic grid x^ = s (q^2 - z), q = 0 .. 2^b - 1, for data bounded below by a small constant
// (GELU outputs: x >= -0.17). It has the step 2 s q, fine near the lower end where the data is
// dense. Up to 4 bits q^2 <= 225 fits an unsigned byte, so the product runs on integer kernels with
// q^2 in the place of the code and z as its zero point.
#pragma once

#include <ATen/core/Tensor.h>

namespace repquant {

struct QuadraticGrid {
  int bits = 4;        // 2..4
  double scale = 1.0;  // > 0
  int zero_point = 0;  // 0 .. (2^bits - 1)^2

  int max_code() const { return (1 << bits) - 1; }
};

/// Codes q as float32. u = clamp(round(x / s) + z, 0, (2^b - 1)^2), q = round(sqrt(u)).
///
/// This is the nearest level in value, although it rounds twice: the midpoint between two levels,
/// (q^2 + (q + 1)^2) / 2 = q^2 + q + 1/2, is half-integral, so rounding x / s to an integer first
/// does not move it across; and sqrt(q^2 + q) < q + 1/2 < sqrt(q^2 + q + 1).
at::Tensor quantize(const at::Tensor& x, const QuadraticGrid& grid);
at::Tensor dequantize(const at::Tensor& codes, const QuadraticGrid& grid);
at::Tensor fake_quantize(const at::Tensor& x, const QuadraticGrid& grid);

}  // namespace repquant
