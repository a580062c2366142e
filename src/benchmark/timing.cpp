#include "benchmark/timing.h"

#include <algorithm>
#include <cmath>

#include "repquant/error.h"

namespace repquant {
namespace {

/// Largest k with P(Binomial(n, 1/2) < k) <= 0.025; the k-th smallest and largest value then
/// enclose the median with at least 95 %. 0 if there is none.
std::size_t interval_rank(std::size_t n) {
  double probability = std::pow(0.5, static_cast<double>(n));  // of exactly i successes
  double below = 0.0;
  std::size_t k = 0;
  for (std::size_t i = 0; i < n; ++i) {
    below += probability;
    if (below > 0.025) break;
    k = i + 1;
    probability *= static_cast<double>(n - i) / static_cast<double>(i + 1);
  }
  return k;
}

}  // namespace

double percentile(std::vector<double> values, double p) {
  if (values.empty()) {
    throw Error(ErrorKind::kInternal, {.what = "a percentile of no values"});
  }
  std::sort(values.begin(), values.end());
  const double position = p * static_cast<double>(values.size() - 1);
  const auto low = static_cast<std::size_t>(position);
  const std::size_t high = std::min(low + 1, values.size() - 1);
  const double share = position - static_cast<double>(low);
  return values[low] + share * (values[high] - values[low]);
}

Latency summarize_times(const std::vector<double>& seconds) {
  return {.median = percentile(seconds, 0.5),
          .p90 = percentile(seconds, 0.9),
          .p99 = percentile(seconds, 0.99),
          .minimum = percentile(seconds, 0.0)};
}

SpeedUp paired_speed_up(const std::vector<double>& baseline, const std::vector<double>& model) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < std::min(baseline.size(), model.size()); ++i) {
    ratios.push_back(baseline[i] / model[i]);
  }
  SpeedUp result;
  result.median = percentile(ratios, 0.5);
  std::sort(ratios.begin(), ratios.end());
  const std::size_t rank = std::max<std::size_t>(interval_rank(ratios.size()), 1);
  result.interval = {ratios[rank - 1], ratios[ratios.size() - rank]};
  return result;
}

}  // namespace repquant
