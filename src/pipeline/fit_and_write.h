// The second half of quantize: from a prepared model and a recipe to a checked artifact.
#pragma once

#include <optional>

#include "fit/sweep.h"
#include "pipeline/prepare.h"
#include "repquant/quantize.h"

namespace repquant {

/// The sweep under options.recipe. Throws Error as run_sweep() and resolve_bits().
SweepResult sweep_prepared(const PreparedRun& run, const QuantizeOptions& options,
                           const Observer& observer);

/// Writes the artifact of a sweep under options.recipe and says what it came to; `mixed` goes into
/// both. Uses up the run; one that is needed again is handed over as a copy. Warns of sites that
/// failed or lost most of their output. Throws Error as judge(), check_coverage() (where sites
/// failed) and write_artifact().
QuantizeReport write_prepared(PreparedRun run, const QuantizeOptions& options,
                              const SweepResult& sweep, const std::optional<MixedReport>& mixed,
                              const Observer& observer);

}  // namespace repquant
