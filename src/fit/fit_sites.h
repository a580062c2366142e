// The sequential fit: fit -> plan fold -> GPTQ -> go on with the quantized site, in one walk over
// the graph with two value streams (floating point and quantized).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "fit/fold_check.h"
#include "fit/spill.h"
#include "graph/site.h"
#include "plan/site_plan.h"
#include "repquant/recipe.h"
#include "tensor/samples.h"

namespace repquant {

struct FitProgress {
  std::size_t site = 0;   // sites finished
  std::size_t sites = 0;  // sites in all
  std::string path;       // the site being worked on
};

struct FitSitesOptions {
  int threads = 1;
  std::string workdir;  // checkpoints go here; empty: none are written
  SpillPlace spill{};
  double largest_fold_deviation = kLargestFoldDeviation;
  bool resume = false;      // continue from the checkpoint in workdir
  std::string fingerprint;  // identifies model, data and recipe; a checkpoint of another is refused
  // None may be null.
  std::function<void(const FitProgress&)> on_progress = [](const FitProgress&) {};
  std::function<void(const std::string&)> warn = [](const std::string&) {};  // of damaged files
  /// Throws Error kInterrupted when the user stopped the run.
  std::function<void()> check_interrupt = [] {};
};

/// A site that stays in floating point because it could not be quantized, and why.
struct FailedSite {
  std::string path;
  std::string reason;
  /// As the tables of sites and of gaps say it.
  std::string note() const { return "it failed: " + reason; }
};

struct FittedSites {
  std::vector<SitePlan> plans;     // one for each quantized site, in execution order
  std::vector<FailedSite> failed;  // neither planned nor excluded, in execution order
  double fold_deviation = 0.0;     // largest of SiteErrors::fold_deviation
  double output_sqnr_db = 0.0;     // simulated outputs against FP32, on the calibration data
  double float_seconds = 0.0;      // FP32 stream alone, summed over batches, one thread
  double seconds = 0.0;            // all of it, wall clock
};

/// Fits all sites, one after the other, on calibration batches (each a list of the model's inputs,
/// [B, ...]). A site whose fit fails stays in floating point (FittedSites::failed). Throws the
/// Error of the first one if none is left, and kNumerical if no output, or a quantized one alone,
/// is finite.
FittedSites fit_sites(const Model& model, const SiteSearch& search, const Batches& batches,
                      const Recipe& recipe, const FitSitesOptions& options);

}  // namespace repquant
