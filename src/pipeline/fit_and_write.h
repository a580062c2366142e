// The second half of quantize: from a prepared model and a recipe to a checked artifact.
#pragma once

#include <optional>

#include "base/clock.h"
#include "fit/hold_back.h"
#include "fit/site_bits.h"
#include "fit/sweep.h"
#include "graph/model.h"
#include "graph/site.h"
#include "pipeline/calibration.h"
#include "repquant/quantize.h"

namespace repquant {

/// A loaded model with proven sites, and the samples to fit on.
struct Prepared {
  const Model* model = nullptr;
  SiteSearch* search = nullptr;
  const CalibrationSource* source = nullptr;
  const Calibration* calibration = nullptr;  // what is fitted
  const Batches* held_back = nullptr;        // what judges; null or empty: nothing
  Clock::time_point start;                   // of the run
  bool last_use = true;  // the artifact may use up the model's weights: nothing is written after it
};

/// The sweep under options.recipe. Throws Error as run_sweep() and resolve_bits().
SweepResult sweep_prepared(const Prepared& prepared, const QuantizeOptions& options,
                           const QuantizeHooks& hooks);

/// Writes the artifact of a sweep under options.recipe and says what it came to; `mixed` goes into
/// both. Warns of sites that lost most of their output. Throws Error as write_artifact().
QuantizeReport write_prepared(const Prepared& prepared, const QuantizeOptions& options,
                              const SweepResult& sweep, const std::optional<MixedReport>& mixed,
                              const QuantizeHooks& hooks);

}  // namespace repquant
