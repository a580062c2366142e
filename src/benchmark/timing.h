// Statistics of repeated timings, as pure functions.
#pragma once

#include <vector>

#include "repquant/benchmark.h"

namespace repquant {

/// The value below which a share `p` (0..1) of the values lies, linear between neighbours.
/// Throws Error kInternal for no values.
double percentile(std::vector<double> values, double p);

Latency summarize_times(const std::vector<double>& seconds);

/// Ratios baseline[i] / model[i] of the same rounds. Pairing takes out what disturbs both alike.
/// The interval holds the median of the ratios with at least 95 % (binomial order statistics;
/// Conover, Practical Nonparametric Statistics, 3.2); with few rounds it is the whole range.
SpeedUp paired_speed_up(const std::vector<double>& baseline, const std::vector<double>& model);

}  // namespace repquant
