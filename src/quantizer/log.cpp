#include "quantizer/log.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tensor/check.h"

namespace repquant {
namespace {

constexpr double kLog2E = 1.4426950408889634074;

void check(const LogGrid& grid) {
  require(grid.bits >= 2 && grid.bits <= 8 && grid.steps_per_octave > 0, "LogGrid",
          "bits from 2 to 8 and a positive number of steps per octave");
}

}  // namespace

at::Tensor log_codes_from_scores(const at::Tensor& scores_minus_rowmax, const LogGrid& grid) {
  check(grid);
  return at::mul(scores_minus_rowmax, -kLog2E * grid.steps_per_octave)
      .round_()
      .clamp_(0, grid.max_code());
}

at::Tensor log_table(const LogGrid& grid) {
  check(grid);
  std::vector<float> table(static_cast<std::size_t>(grid.max_code()) + 1);
  for (std::size_t code = 0; code < table.size(); ++code) {
    double weight = std::exp2(-static_cast<double>(code) / grid.steps_per_octave);
    if (grid.u8_table) weight = std::nearbyint(255 * weight) / 255;
    table[code] = static_cast<float>(weight);
  }
  if (grid.zero_code) table.back() = 0;
  return at::tensor(table);
}

at::Tensor log_weights(const at::Tensor& codes, const LogGrid& grid) {
  const at::Tensor table = log_table(grid);
  if (!codes.isnan().any().item<bool>()) return table.take(codes.to(at::kLong));
  // Rows that are NaN (padding that the model drops later) have no codes, and stay NaN.
  return table.take(codes.nan_to_num().to(at::kLong))
      .masked_fill(codes.isnan(), std::numeric_limits<double>::quiet_NaN());
}

ParitySplit split_by_parity(const at::Tensor& codes, const LogGrid& grid) {
  check(grid);
  require(grid.steps_per_octave == 2 && !grid.u8_table, "split_by_parity",
          "a log-sqrt2 grid without a u8 table");
  const int last = grid.zero_code ? grid.max_code() - 1 : grid.max_code();
  const int shift = (last + 1) / 2;
  // Tables indexed by the code keep the split exact; 2^shift is exact in float32 up to shift 127.
  std::vector<float> even(static_cast<std::size_t>(grid.max_code()) + 1, 0.0F);
  std::vector<float> odd(even.size(), 0.0F);
  for (int code = 0; code <= last; ++code) {
    const float multiplier = std::ldexp(1.0F, shift - (code + 1) / 2);
    (code % 2 == 0 ? even : odd)[static_cast<std::size_t>(code)] = multiplier;
  }
  const at::Tensor index = codes.to(at::kLong);
  return {at::tensor(even).take(index), at::tensor(odd).take(index), shift};
}

}  // namespace repquant
