// Bit allocation as a stage of quantize: from calibration data and a target to the recipe's bits.
#pragma once

#include <vector>

#include "bit_allocation/choices.h"
#include "bit_allocation/choose_bits.h"
#include "bit_allocation/measure_errors.h"
#include "fit/hold_back.h"
#include "fit/spill.h"
#include "pipeline/prepare.h"
#include "repquant/quantize.h"

namespace repquant {

/// What can be said before any work. Throws Error kUsage for candidates or a recipe of weight-only
/// bits, and for a target that is no number from the smallest candidate to 8.
void check_bit_allocation(const BitAllocationOptions& bit_allocation, const Recipe& recipe);

struct AllocatedBits {
  Recipe recipe;  // with an override for every site
  BitAllocationReport report;
};

/// What there is to choose from, and what each choice costs.
struct RankedWidths {
  Choices choices;
  ErrorTable table;
};

/// Ranks the widths of the run's sites on `batches`: its own, or some of them. Reports every site
/// to the observer. Throws Error as find_choices() and measure_errors().
RankedWidths rank_widths(const PreparedRun& run, const Batches& batches, const Recipe& recipe,
                         const Candidates& candidates, const SpillPlace& spill, int threads,
                         const Observer& observer);

/// Uses the recipe, candidates, target and threads of `options`. Throws Error as rank_widths() and
/// choose_bits().
AllocatedBits allocate_bits(const PreparedRun& run, const QuantizeOptions& options,
                            const Observer& observer);

/// An allocation as it is reported.
BitAllocationReport allocation_report(const Allocation& allocation, double target_bits);

/// 10 log10(1 / error) for a squared error relative to the signal; +infinity for 0.
double relative_sqnr_db(double error);

}  // namespace repquant
