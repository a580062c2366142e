#include "gptq/codebook.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "quantizer/levels.h"

namespace repquant {
namespace {

constexpr std::int64_t kValues = 65536;  // of a sample: thousands for each level
constexpr int kRounds = 4;

/// The whole numbers of `bits`, as widely spread as levels may be.
WeightCodes even_levels(int bits) {
  const int half = 1 << (bits - 1);
  const float step = static_cast<float>(max_weight_level(bits)) / static_cast<float>(half);
  std::vector<float> levels;
  for (int code = -half; code < half; ++code) {
    levels.push_back(std::round(static_cast<float>(code) * step));
  }
  return with_levels(std::move(levels));
}

/// Levels of bins, which start at -`bound`, as codes; bins may end one higher than codes do.
std::vector<float> as_codes(const at::Tensor& levels, float bound) {
  std::vector<float> codes(static_cast<std::size_t>(levels.numel()));
  float most = bound;
  for (std::size_t i = codes.size(); i-- > 0;) {
    codes[i] = std::min(levels.const_data_ptr<std::uint8_t>()[i] - bound, most);
    most = codes[i] - 1;
  }
  return codes;
}

}  // namespace

WeightCodes fit_codebook(const at::Tensor& weight, const at::Tensor& importance, int bits,
                         std::int64_t group_size) {
  const std::int64_t rows = weight.size(0), columns = weight.size(1);
  const std::int64_t stride = std::max<std::int64_t>(1, rows * columns / kValues);
  const float* values = weight.const_data_ptr<float>();
  const float* counted = importance.const_data_ptr<float>();
  const double bound = max_weight_level(bits);
  WeightCodes codes = even_levels(bits);
  for (int round = 0; round < kRounds; ++round) {
    const at::Tensor counts = at::zeros({kMaxLevel + 1}, at::kDouble);
    const at::Tensor sums = at::zeros({kMaxLevel + 1}, at::kDouble);
    auto *count = counts.mutable_data_ptr<double>(), *sum = sums.mutable_data_ptr<double>();
    for (std::int64_t row = 0; row < rows; row += stride) {
      for (std::int64_t first = 0; first < columns; first += group_size) {
        const float* w = values + row * columns + first;
        const float* h = counted + first;
        const std::int64_t width = std::min(group_size, columns - first);
        const auto scale = static_cast<double>(search_row_scale({w, h, width, codes}));
        for (std::int64_t k = 0; k < width; ++k) {
          const double weighs = static_cast<double>(h[k]) * scale * scale;
          // No level can follow a value beyond the bounds.
          const double u = std::clamp(static_cast<double>(w[k]) / scale, -bound, bound) + bound;
          const auto bin = static_cast<std::size_t>(std::llround(u));
          count[bin] += weighs;
          sum[bin] += weighs * u;
        }
      }
    }
    std::vector<float> levels =
        as_codes(best_levels(counts, sums, bits), static_cast<float>(bound));
    // A weight of zeros has no levels of its own.
    if (!(levels.front() < 0 && levels.back() > 0)) break;
    codes = with_levels(std::move(levels));
  }
  return codes;
}

}  // namespace repquant
