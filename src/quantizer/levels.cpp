#include "quantizer/levels.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace repquant {
namespace {

constexpr std::size_t kFine = static_cast<std::size_t>(kMaxLevel) + 1;

}  // namespace

at::Tensor best_levels(const at::Tensor& counts, const at::Tensor& sums, int bits) {
  // Prefix sums; the squares of the values do not depend on the levels.
  std::array<double, kFine + 1> total{}, moment{};
  const at::Tensor n = counts.contiguous(), s = sums.contiguous();
  for (std::size_t i = 0; i < kFine; ++i) {
    total[i + 1] = total[i] + n.const_data_ptr<double>()[i];
    moment[i + 1] = moment[i] + s.const_data_ptr<double>()[i];
  }
  const auto level_of = [&](std::size_t from, std::size_t to) {
    const double weight = total[to] - total[from];
    const double mean = weight > 0.0 ? (moment[to] - moment[from]) / weight
                                     : static_cast<double>(from + to - 1) / 2;
    // A mean between two intervals belongs to its own, so that levels rise.
    return std::clamp(std::nearbyint(mean), static_cast<double>(from), static_cast<double>(to - 1));
  };
  const auto cost = [&](std::size_t from, std::size_t to) {
    const double level = level_of(from, to);
    return level * (level * (total[to] - total[from]) - 2 * (moment[to] - moment[from]));
  };
  // least[k][i]: of the values below i with k + 1 levels; cut[k][i]: where the last level begins.
  const std::size_t levels = std::size_t{1} << bits;
  std::vector<std::array<double, kFine + 1>> least(levels);
  std::vector<std::array<std::size_t, kFine + 1>> cut(levels);
  for (std::size_t i = 1; i <= kFine; ++i) least[0][i] = cost(0, i);
  for (std::size_t k = 1; k < levels; ++k) {
    for (std::size_t i = k + 1; i <= kFine; ++i) {
      least[k][i] = std::numeric_limits<double>::infinity();
      for (std::size_t from = k; from < i; ++from) {
        const double error = least[k - 1][from] + cost(from, i);
        if (error < least[k][i]) {
          least[k][i] = error;
          cut[k][i] = from;
        }
      }
    }
  }
  at::Tensor result = at::empty({static_cast<std::int64_t>(levels)}, at::kByte);
  std::size_t end = kFine;
  for (std::size_t k = levels; k-- > 0;) {
    const std::size_t from = k > 0 ? cut[k][end] : 0;
    result.mutable_data_ptr<std::uint8_t>()[k] = static_cast<std::uint8_t>(level_of(from, end));
    end = from;
  }
  return result;
}

}  // namespace repquant
