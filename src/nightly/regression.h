// A row against the outcome of an earlier run, such as last night's.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "evaluate/gates.h"

namespace repquant {

/// How much worse than an earlier outcome a row may be.
struct RegressionGates {
  std::string outcome;          // file of that outcome; empty: there are no such gates
  std::vector<Metric> allowed;  // by metric; 0: not worse at all
};

/// A gate "baseline top1" for each metric, with the limit that follows from the earlier figure.
/// None where there is no outcome: the row is new. Throws Error kFile for a file that is no
/// outcome, kUsage for a metric that either side does not have.
std::vector<GateResult> judge_regression(const RegressionGates& gates,
                                         std::span<const Metric> metrics);

}  // namespace repquant
