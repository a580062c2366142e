// The fewest bits that keep the outputs: whole fits at different averages, judged on calibration
// samples that were held back.
#pragma once

#include "pipeline/fit_and_write.h"

namespace repquant {

/// Bisection over averages in steps of a quarter bit; more bits are taken to be better. A quarter
/// of the samples, the last ones, judges; it is neither ranked nor fitted on. The most that the
/// candidates allow is tried first: if it exceeds the bound, Error kGate says by how much and
/// nothing is written. Whatever meets the bound with fewer bits than before is written at once, so
/// an interruption or the time limit leaves the best so far (the limit counts once there is one).
/// `options.bit_allocation->search` must be set. Deterministic without a time limit. Throws Error
/// kUsage for a single sample, kGate, and as the stages do.
QuantizeReport search_bits(const PreparedRun& run, const QuantizeOptions& options,
                           const Observer& observer);

}  // namespace repquant
