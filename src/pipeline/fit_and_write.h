// The second half of quantize: from a prepared model and a recipe to a checked artifact.
#pragma once

#include <optional>

#include "fit/fit_sites.h"
#include "pipeline/prepare.h"
#include "repquant/quantize.h"

namespace repquant {

struct FittedRun {
  FittedSites sites;
  std::optional<LearningReport> learning{};
};

/// The sequential fit under options.recipe, and what is learned after it. Throws Error as
/// fit_sites(), learn_weights() and resolve_bits().
FittedRun fit_prepared(const PreparedRun& run, const QuantizeOptions& options,
                       const Observer& observer);

/// Writes the artifact of a fit under options.recipe and says what it came to; `bit_allocation`
/// goes into both. Uses up the run; one that is needed again is handed over as a copy. Warns of
/// sites that failed or lost most of their output. Throws Error as judge(), check_coverage() (where
/// sites failed) and write_artifact().
QuantizeReport write_prepared(PreparedRun run, const QuantizeOptions& options,
                              const FittedRun& fitted,
                              const std::optional<BitAllocationReport>& bit_allocation,
                              const Observer& observer);

}  // namespace repquant
