// Estimates and their uncertainty, as pure functions in double.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "repquant/evaluate.h"

namespace repquant {

inline constexpr double kNormalQuantile = 1.959963984540054;  // two-sided 95 %

/// The mean of values that come in clusters (tokens of a window): sum of totals over sum of counts.
/// Values of a cluster depend on each other, clusters do not.
class ClusterMean {
 public:
  /// Adds a cluster: the sum of its values, and how many there are.
  void add(double total, double count);

  double count() const { return counts_; }
  double value() const { return counts_ > 0.0 ? totals_ / counts_ : 0.0; }

  /// Value with the standard error of a ratio estimator (Cochran, Sampling Techniques, 1977,
  /// eq. 6.13, without the finite population correction); NaN for fewer than two clusters.
  Mean mean() const;

 private:
  double clusters_ = 0.0;
  double totals_ = 0.0;
  double counts_ = 0.0;
  double total_squares_ = 0.0;
  double count_squares_ = 0.0;
  double products_ = 0.0;
};

/// value +- 1.96 standard errors; the value itself where the error is not known.
Interval normal_interval(const Mean& mean);

/// Wilson score interval (Wilson, 1927) of `count` in `total` > 0 at 95 %.
Interval wilson_interval(std::int64_t count, std::int64_t total);

Proportion proportion(std::int64_t count, std::int64_t total);

/// Ranks from 1, equal values share the mean of theirs.
std::vector<double> ranks(std::span<const double> values);

/// Spearman's rank correlation: Pearson's correlation of the ranks; nothing if either side is
/// constant or there are fewer than two values. Throws Error kInternal for different sizes.
std::optional<double> spearman(std::span<const double> x, std::span<const double> y);

/// 95 % interval of a rank correlation of `count` pairs: tanh(atanh(rho) +- 1.96 sqrt((1 + rho^2 /
/// 2) / (count - 3))) (Bonett and Wright, Psychometrika 65, 2000); [-1, 1] up to three pairs.
Interval spearman_interval(double rho, std::int64_t count);

}  // namespace repquant
