// The stages before the fit: model, data, sites. Shared by quantize, analyze and preview.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "data/past.h"
#include "fit/hold_back.h"
#include "fit/site_bits.h"
#include "graph/model.h"
#include "graph/observe.h"
#include "graph/site.h"
#include "pipeline/calibration_cache.h"
#include "repquant/observer.h"
#include "repquant/recipe.h"

namespace repquant {

/// All that a run works on. A copy shares the graph and the samples, which nothing changes as long
/// as two share them (see lower()).
struct PreparedRun {
  Model model;
  SiteSearch search;           // proven, if there are samples
  std::vector<SiteBits> bits;  // of the sites, as the recipe says
  CalibrationSource source;
  Calibration calibration;          // what is fitted; without batches only the structure is known
  Batches held_back;                // samples apart from those, which judge; empty: nothing does
  std::vector<at::Tensor> checked;  // a few samples for proofs and self-checks
  Observed observed;                // of a run on those
  bool any_number = true;           // of samples, else only as many as in a batch
  int batch_size = 0;               // samples at a time: the recipe's, or chosen
  Past past;                        // keys and values that the model keeps
  std::int64_t model_bytes = 0;     // of its file, which may be gone when the work is done
  Clock::time_point start;          // of the run
};

struct PrepareOptions {
  std::string model;                    // TorchScript file
  std::optional<SampleSource> samples;  // none: the structure alone
  std::string preset;                   // preprocessing preset; empty: the model's own
  int threads = 1;
  bool trust = false;  // as QuantizeOptions::trust
};

/// Opens the data, loads the model and finds its sites, resolves their bits: what is known before
/// any sample is read. Proofs can only take sites away. Reports the phase "load".
/// Throws Error as open_calibration(), check_model_fits(), load_model(), resolve_bits();
/// kUnsupported for an artifact of repquant and for a model without any site, with what was seen
/// instead.
PreparedRun prepare_structure(const PrepareOptions& options, const Recipe& recipe,
                              const Observer& observer, CalibrationCache& cache);

/// Draws the samples, proves normalisation and folds on the first of them. Reports the phase
/// "prove". Throws Error as load_calibration() and check_normalized().
void prepare_samples(PreparedRun& run, const Recipe& recipe, const Observer& observer,
                     CalibrationCache& cache);

/// Both, or without samples only the first.
PreparedRun prepare(const PrepareOptions& options, const Recipe& recipe, const Observer& observer,
                    CalibrationCache& cache);

/// Sets `count` samples, the last ones, apart from those that are fitted: they judge. Of a model
/// that does not take every number of samples (a batch of each size is tried), whole passes as the
/// first one: at least one if there are two, and what is left over goes.
void set_apart(PreparedRun& run, std::int64_t count, const Observer& observer);

/// Throws Error kUsage if the recipe excludes every site.
void require_quantized(const SiteSearch& search, const std::vector<SiteBits>& bits);

/// Before a phase of long work: lets the user stop, and says what comes.
void begin_phase(const Observer& observer, const char* name, std::size_t items);

}  // namespace repquant
