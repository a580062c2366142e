#include "nightly/regression.h"

#include <algorithm>
#include <filesystem>

#include "nightly/plan.h"
#include "nightly/row_result.h"
#include "repquant/error.h"

namespace repquant {
namespace {

double figure_of(std::span<const Metric> metrics, const std::string& name,
                 const std::string& where) {
  const auto found = std::find_if(metrics.begin(), metrics.end(),
                                  [&](const Metric& metric) { return metric.name == name; });
  if (found != metrics.end()) return found->value;
  throw Error(ErrorKind::kUsage, {.what = "a gate on a figure that was not measured",
                                  .where = where,
                                  .expected = name,
                                  .hint = "leave it out of the plan's baseline"});
}

}  // namespace

std::vector<GateResult> judge_regression(const RegressionGates& gates,
                                         std::span<const Metric> metrics) {
  std::vector<GateResult> results;
  std::error_code ignored;
  if (gates.outcome.empty() || !std::filesystem::exists(gates.outcome, ignored)) return results;
  const std::vector<Metric> earlier = read_metrics(gates.outcome);
  for (const Metric& allowed : gates.allowed) {
    const double before = figure_of(earlier, allowed.name, gates.outcome);
    const double now = figure_of(metrics, allowed.name, "baseline");
    const bool less = less_is_better(allowed.name);
    const double limit = less ? before + allowed.value : before - allowed.value;
    results.push_back({.gate = "baseline " + allowed.name,
                       .limit = limit,
                       .value = now,
                       .passed = less ? now <= limit : now >= limit});
  }
  return results;
}

}  // namespace repquant
