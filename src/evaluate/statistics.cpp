#include "evaluate/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "repquant/error.h"

namespace repquant {

void ClusterMean::add(double total, double count) {
  clusters_ += 1.0;
  totals_ += total;
  counts_ += count;
  total_squares_ += total * total;
  count_squares_ += count * count;
  products_ += total * count;
}

Mean ClusterMean::mean() const {
  const double unknown = std::numeric_limits<double>::quiet_NaN();
  if (clusters_ < 2.0 || counts_ <= 0.0) return {value(), unknown};
  const double ratio = value();
  // Sum over clusters of (total - ratio * count)^2; rounding can leave it below zero.
  const double residual =
      std::max(0.0, total_squares_ - 2.0 * ratio * products_ + ratio * ratio * count_squares_);
  return {ratio, std::sqrt(clusters_ / (clusters_ - 1.0) * residual) / counts_};
}

Interval normal_interval(const Mean& mean) {
  const double half = std::isnan(mean.standard_error) ? 0.0 : kNormalQuantile * mean.standard_error;
  return {mean.value - half, mean.value + half};
}

Interval wilson_interval(std::int64_t count, std::int64_t total) {
  if (total <= 0) return {0.0, 1.0};
  const double n = static_cast<double>(total);
  const double p = static_cast<double>(count) / n;
  const double z2 = kNormalQuantile * kNormalQuantile;
  const double center = (p + z2 / (2 * n)) / (1 + z2 / n);
  const double half =
      kNormalQuantile / (1 + z2 / n) * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n));
  return {std::max(0.0, center - half), std::min(1.0, center + half)};
}

Proportion proportion(std::int64_t count, std::int64_t total) {
  const double value = total > 0 ? static_cast<double>(count) / static_cast<double>(total) : 0.0;
  return {count, total, value, wilson_interval(count, total)};
}

std::vector<double> ranks(std::span<const double> values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> result(values.size());
  for (std::size_t begin = 0; begin < order.size();) {
    std::size_t end = begin + 1;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    const double shared = static_cast<double>(begin + 1 + end) / 2.0;
    for (std::size_t i = begin; i < end; ++i) result[order[i]] = shared;
    begin = end;
  }
  return result;
}

std::optional<double> spearman(std::span<const double> x, std::span<const double> y) {
  if (x.size() != y.size()) {
    throw Error(ErrorKind::kInternal, {.what = "rank correlation of lists of different sizes"});
  }
  if (x.size() < 2) return std::nullopt;
  const std::vector<double> left = ranks(x);
  const std::vector<double> right = ranks(y);
  const double center = (static_cast<double>(x.size()) + 1.0) / 2.0;
  double product = 0.0, left_square = 0.0, right_square = 0.0;
  for (std::size_t i = 0; i < left.size(); ++i) {
    product += (left[i] - center) * (right[i] - center);
    left_square += (left[i] - center) * (left[i] - center);
    right_square += (right[i] - center) * (right[i] - center);
  }
  if (left_square == 0.0 || right_square == 0.0) return std::nullopt;
  return std::clamp(product / std::sqrt(left_square * right_square), -1.0, 1.0);
}

Interval spearman_interval(double rho, std::int64_t count) {
  if (count <= 3) return {-1.0, 1.0};
  const double error = std::sqrt((1.0 + rho * rho / 2.0) / static_cast<double>(count - 3));
  const double center = std::atanh(rho);  // infinite for rho = +-1: the interval is a point
  return {std::tanh(center - kNormalQuantile * error), std::tanh(center + kNormalQuantile * error)};
}

}  // namespace repquant
