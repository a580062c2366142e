#include "gptq/descent.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "tensor/simd.h"

namespace repquant {
namespace {

constexpr std::int64_t kBlock = 128;  // columns whose steps reach all others in one product

/// The best code of a column for every row, and steps = s times its change.
REPQUANT_SIMD void update_column(const double* gradient, const double* scale, double diagonal,
                                 const WeightCodes& allowed, double* codes, double* steps,
                                 std::int64_t rows) {
  const auto low = static_cast<double>(allowed.low), high = static_cast<double>(allowed.high);
  for (std::int64_t r = 0; r < rows; ++r) steps[r] = codes[r] + gradient[r] / (diagonal * scale[r]);
  if (allowed.levels.empty()) {
    for (std::int64_t r = 0; r < rows; ++r) {
      const double next = std::min(high, std::max(low, std::nearbyint(steps[r])));
      steps[r] = scale[r] * (next - codes[r]);
      codes[r] = next;
    }
    return;
  }
  for (std::int64_t from = 0; from < rows; from += kLanes) {
    const std::int64_t count = std::min(kLanes, rows - from);
    float wanted[kLanes], next[kLanes];
    for (std::int64_t i = 0; i < count; ++i) wanted[i] = static_cast<float>(steps[from + i]);
    nearest_lanes(allowed, wanted, next, count);
    for (std::int64_t i = 0; i < count; ++i) {
      const auto code = static_cast<double>(next[i]);
      steps[from + i] = scale[from + i] * (code - codes[from + i]);
      codes[from + i] = code;
    }
  }
}

REPQUANT_SIMD void subtract_scaled(double* target, const double* source, double coefficient,
                                   std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) target[i] -= coefficient * source[i];
}

}  // namespace

void descend(const at::Tensor& weight, const at::Tensor& scale, const at::Tensor& hessian,
             const WeightCodes& allowed, at::Tensor& codes) {
  const std::int64_t rows = codes.size(0), columns = codes.size(1);
  // Transposed, so that a column of all rows is contiguous. The gradient is H dW^T.
  at::Tensor transposed = codes.t().contiguous();
  const at::Tensor scales = scale.t().contiguous();
  at::Tensor gradient = at::mm(hessian, (weight.to(at::kDouble) - codes * scale).t());
  for (std::int64_t from = 0; from < columns; from += kBlock) {
    const std::int64_t count = std::min(kBlock, columns - from);
    const at::Tensor inside =
        hessian.slice(0, from, from + count).slice(1, from, from + count).contiguous();
    at::Tensor local = gradient.slice(0, from, from + count).clone();
    at::Tensor steps = at::zeros({count, rows}, at::kDouble);
    const double* h = inside.const_data_ptr<double>();
    const double* s = scales.const_data_ptr<double>() + from * rows;
    auto* g = local.data_ptr<double>();
    auto* q = transposed.data_ptr<double>() + from * rows;
    auto* step = steps.data_ptr<double>();
    for (std::int64_t j = 0; j < count; ++j) {
      const double diagonal = h[j * count + j];
      if (!(diagonal > 0)) continue;
      update_column(g + j * rows, s + j * rows, diagonal, allowed, q + j * rows, step + j * rows,
                    rows);
      for (std::int64_t k = j + 1; k < count; ++k) {
        subtract_scaled(g + k * rows, step + j * rows, h[j * count + k], rows);
      }
    }
    gradient.addmm_(hessian.slice(1, from, from + count), steps, 1, -1);
  }
  codes = transposed.t().contiguous();
}

}  // namespace repquant
