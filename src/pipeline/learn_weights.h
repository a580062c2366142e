// The step between fit and artifact: weights are learned, where the recipe asks for it.
#pragma once

#include <optional>

#include "fit/fit_sites.h"
#include "pipeline/prepare.h"
#include "repquant/quantize.h"

namespace repquant {

/// Replaces the plans by learned ones, with their errors measured anew, if these do better on the
/// samples that are held back; else, and where nothing can be learned, it warns and leaves them.
/// Nothing without steps in options.recipe. `fit`: those of the fit. Reports the phase "learn".
/// Throws Error as learn() and measure_sites().
std::optional<LearningReport> learn_weights(FittedSites& fitted, const PreparedRun& run,
                                            const QuantizeOptions& options,
                                            const FitSitesOptions& fit, const Observer& observer);

}  // namespace repquant
