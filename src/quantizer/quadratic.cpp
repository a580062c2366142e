#include "quantizer/quadratic.h"

#include <ATen/ATen.h>

#include "tensor/check.h"

namespace repquant {

at::Tensor quantize(const at::Tensor& x, const QuadraticGrid& grid) {
  require(grid.bits >= 2 && grid.bits <= 4 && grid.scale > 0, "quantize (quadratic)",
          "bits from 2 to 4 and a positive scale");
  const int top = grid.max_code() * grid.max_code();
  return at::div(x, grid.scale).round_().add_(grid.zero_point).clamp_(0, top).sqrt_().round_();
}

at::Tensor dequantize(const at::Tensor& codes, const QuadraticGrid& grid) {
  return at::square(codes).sub_(grid.zero_point).mul_(grid.scale);
}

at::Tensor fake_quantize(const at::Tensor& x, const QuadraticGrid& grid) {
  return dequantize(quantize(x, grid), grid);
}

}  // namespace repquant
