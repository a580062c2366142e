// Runs the rows of a plan, one after the other, whatever becomes of the others.
#pragma once

#include <vector>

#include "nightly/plan.h"
#include "nightly/row_result.h"

namespace repquant {

struct NightlyReport {
  std::vector<RowResult> rows;  // in the order of the plan
  std::int64_t passed = 0;
  std::int64_t missed = 0;
  std::int64_t failed = 0;
  int calibrations = 0;  // how often samples were read: once for the bit widths of a model
};

/// Looks at every row without work on it: one whose outcome is there is judged, another one is
/// RowStatus::kPlanned, or kFailed if its files do not allow it. Nothing is written.
NightlyReport look_at_nightly(const NightlyPlan& plan, bool force, const Observer& observer);

/// Quantizes, evaluates and judges every row. A row whose outcome is there already is not run
/// again; an outcome that is out of date is replaced, but a file of the same name that no run has
/// written only with `force`. An error makes its row fail and the run goes on, except for an
/// interruption, which ends it. Tells the observer of every row when it begins and when it is done.
/// Throws Error kInterrupted; kFile if the folder cannot be made.
NightlyReport run_nightly(const NightlyPlan& plan, bool force, const Observer& observer);

}  // namespace repquant
