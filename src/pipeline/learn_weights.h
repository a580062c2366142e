// The step between fit and artifact: weights are learned, where the recipe asks for it.
#pragma once

#include <optional>

#include "fit/fit_sites.h"
#include "pipeline/prepare.h"
#include "repquant/quantize.h"

namespace repquant {

/// Replaces the plans by learned ones, with their errors measured anew, if these do better on the
/// samples that are held back; else, and where nothing can be learned, it warns and leaves them.
/// Learns from the plans, or from those of another fit, to fewer samples, where there are enough of
/// them (LearningRecipe::start_samples). Nothing without steps in options.recipe. `fit`: those of
/// the fit. Reports the phases "fit the start" and "learn". Throws Error as fit_sites(), learn()
/// and measure_sites().
std::optional<LearningReport> learn_weights(FittedSites& fitted, const PreparedRun& run,
                                            const QuantizeOptions& options,
                                            const FitSitesOptions& fit, const Observer& observer);

}  // namespace repquant
