// From a TorchScript file and calibration data to a verified integer artifact. No LibTorch types
// here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "repquant/coverage.h"
#include "repquant/observer.h"
#include "repquant/recipe.h"
#include "repquant/samples.h"

namespace repquant {

/// Looks for the smallest target of average bits, in steps of a quarter bit, whose KL divergence
/// from FP32 on held-back calibration samples (the last quarter) stays within a
/// bound.
struct BitSearch {
  double max_kl = 0.0;              // nats per row of the outputs as logits, mean; positive
  double time_limit_seconds = 0.0;  // ends the search with the best so far; 0: none
};

/// Bits chosen site by site so that their average meets a target. Weights and activations each meet
/// it: weights averaged over their elements, activations over the multiply-accumulates of the
/// sites.
struct BitAllocationOptions {
  double target_bits = 4.5;  // from the smallest candidate to 8; with `search` it is found instead
  std::optional<BitSearch> search{};
  /// Weights and activations choose each by itself: w3a3 and w6a6 allow w3a6, too.
  std::vector<BitWidths> candidates{{3, 3}, {4, 4}, {6, 6}, {8, 8}};
};

struct QuantizeOptions {
  std::string model;   // TorchScript file
  std::string output;  // artifact to write
  Recipe recipe;
  std::optional<BitAllocationOptions> bit_allocation;  // none: the bits of the recipe
  SampleSource calib;  // must be said: random numbers are never taken for data
  std::string preset;  // preprocessing preset; empty: the model's own
  int threads = 1;
  bool force = false;                 // replace an existing output
  bool strict = false;                // an operator left in floating point unasked is an error
  double min_coverage = 0.0;          // of Coverage::smallest_share(), 0..1
  std::optional<double> min_sqnr_db;  // of the outputs on held-back samples; else Error kGate
  double min_agreement = 0.0;         // share of rows with the same top-1 there, 0..1
  std::string workdir;                // checkpoints; empty: none
  bool resume = false;
  bool histograms = false;  // of what the worst sites read, in the report
  bool trust = false;       // the model's code may reach files and processes (docs/security.md)
};

/// One site, quantized or left in floating point, for the table of sites.
struct SiteReport {
  std::string path;
  std::string kind;         // "linear", "scores", "attend" .. (docs/artifact-format.md)
  int weight_bits = 0;      // 0: it has none, or stays in floating point
  int activation_bits = 0;  // 16: weights alone; 0: left in floating point
  std::string grids;        // "uniform", "quadratic, per channel, folded" ...
  int side_columns = 0;     // massive channels with grids of their own
  std::int64_t parameters = 0;
  std::int64_t macs = 0;
  double own_sqnr_db = 0.0;     // what this site adds: quantized against float on the same input
  double output_sqnr_db = 0.0;  // all errors up to this site
  std::string rounding;         // outcome of the weight rounding
  std::string note;
};

/// One step of the self-check, as a line of the report. All have passed: a failure is an Error.
struct CheckReport {
  std::string name;
  std::string measured;
  std::string limit;
};

/// How what a site reads is distributed over bins of equal width, before and after clipping to what
/// its grid can hold.
struct InputHistogram {
  std::string path;                                 // of the site
  std::string operand;                              // "input", "left", "right" or "value"
  std::optional<std::int64_t> channel{};            // none: all channels
  double lower = 0.0, upper = 0.0;                  // edges of the first and the last bin
  std::optional<std::pair<double, double>> grid{};  // its ends; none: channels or tokens differ
  double clipped = 0.0;                             // share of the values beyond them
  std::vector<double> before, after;                // shares of the values
};

/// How a search for the fewest bits was judged.
struct BitSearchReport {
  double max_kl = 0.0;  // the bound, nats
  double kl = 0.0;      // of the simulation against FP32, mean over rows, nats
  int samples = 0;      // held back: neither fitted nor ranked on

  friend bool operator==(const BitSearchReport&, const BitSearchReport&) = default;
};

/// What the choice of bits site by site came to. Averages do not count what stays in floating
/// point.
struct BitAllocationReport {
  double target_bits = 0.0;
  double weight_bits = 0.0;                    // average over the elements of the weights
  double activation_bits = 0.0;                // average over multiply-accumulates
  double estimated_sqnr_db = 0.0;              // of the outputs, from the sum of the sites' errors
  double estimated_kl = 0.0;                   // nats per row, outputs taken as logits
  std::optional<BitSearchReport> held_back{};  // with BitSearch

  friend bool operator==(const BitAllocationReport&, const BitAllocationReport&) = default;
};

/// How far the simulation is from FP32 on calibration samples that nothing was fitted on.
struct HeldBackReport {
  int samples = 0;
  double sqnr_db = 0.0;  // of all floating-point outputs
  /// Share of rows with the same largest value, outputs taken as logits; none where they are none.
  std::optional<double> agreement{};
  std::optional<double> fitted_agreement{};  // the same on as many samples that were fitted
  double floor_db = 0.0;                     // below it there is a warning

  friend bool operator==(const HeldBackReport&, const HeldBackReport&) = default;
};

/// What learning came to (LearningRecipe).
struct LearningReport {
  int steps = 0;
  double loss_before = 0.0;  // of the outputs on the samples held back: squared error relative to
  double loss_after = 0.0;   // the variance and, of logits, KL divergence in nats
  bool kept = false;         // the artifact has the learned weights
};

struct QuantizeReport {
  std::string output;
  std::string recipe;                  // name
  std::optional<Clipping> clipping{};  // of norms with static grids; none: grids per token
  Coverage coverage;
  std::optional<BitAllocationReport> bit_allocation;
  std::optional<LearningReport> learning{};  // none: nothing was learned
  std::vector<SiteReport> sites;
  std::vector<CheckReport> checks;
  std::string protocol;  // calibration data and preprocessing
  int samples = 0;       // fitted
  bool synthetic = false;
  double fold_deviation = 0.0;  // relative to the largest output
  double output_sqnr_db = 0.0;  // simulated against FP32, on the samples that were fitted
  std::vector<InputHistogram> histograms;   // with QuantizeOptions::histograms, worst site first
  std::optional<HeldBackReport> judgement;  // none: no samples were held back
  double seconds = 0.0;                     // whole run
  double fit_seconds = 0.0;
  double float_seconds = 0.0;  // FP32 model on the same samples, one thread
  std::int64_t model_bytes = 0;
  std::int64_t output_bytes = 0;
  std::int64_t peak_memory_bytes = 0;
};

/// Quantizes a model and writes the artifact, which is checked before it gets its name. Nothing is
/// left behind on failure but the checkpoints in `workdir`; of a search that is interrupted, the
/// best artifact so far is. The number of threads that LibTorch uses is the caller's again in the
/// end. Throws Error of every kind, kUsage for a calibration that is not given; see each stage.
QuantizeReport quantize(const QuantizeOptions& options, const Observer& observer = {});

/// What would be quantized, without quantizing it.
struct PreviewOptions {
  std::string model;
  Recipe recipe;
  /// One batch proves folds and counts multiply-accumulates; nothing is fitted on it. None: random
  /// numbers of the preset's shape, and without a preset the structure alone.
  std::optional<SampleSource> data;
  std::string preset;  // preprocessing preset; empty: the model's own
  int threads = 1;
  bool trust = false;  // the model's code may reach files and processes (docs/security.md)
};

struct Preview {
  Coverage coverage;
  std::vector<SiteReport> sites;  // without errors
  bool proven = false;            // the model was run: folds are proven, operations are counted
};

/// Throws Error as quantize() does before its long work.
Preview preview(const PreviewOptions& options);

}  // namespace repquant
