// Which sites of a model suffer most from quantization, measured on calibration data alone. No
// LibTorch types here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "repquant/observer.h"
#include "repquant/quantize.h"
#include "repquant/recipe.h"
#include "repquant/samples.h"

namespace repquant {

struct AnalyzeOptions {
  std::string model;
  Recipe recipe;       // its bits are those that sites are ranked at
  SampleSource calib;  // as for quantize(); must be said
  std::string preset;  // preprocessing preset; empty: the model's own
  int threads = 1;
  std::string output;  // recipe to write; empty: none
  bool force = false;  // replace an existing output
  /// Of the recommended bits; the recipe's bits count as a candidate, too.
  std::vector<BitWidths> candidates = BitAllocationOptions{}.candidates;
  /// Average of the recommended bits; none: the recipe's weight and activation bits.
  std::optional<double> target_bits;
  bool trust = false;  // the model's code may reach files and processes (docs/security.md)
};

/// One site, quantized alone at the bits of the recipe, all else in floating point. The figures of
/// the outputs are second-order estimates.
struct SensitivityRow {
  std::string path;
  std::string kind;
  int weight_bits = 0;      // 0: none
  int activation_bits = 0;  // 16: weight-only
  std::int64_t parameters = 0;
  std::int64_t macs = 0;
  double local_sqnr_db = 0.0;   // of the site's output
  double output_sqnr_db = 0.0;  // of the model's outputs
  double kl = 0.0;              // nats per row, the outputs taken as logits
  double share = 0.0;           // of the sum of all rows' output errors, 0..1
  // With this site and all rows above it quantized.
  double cumulative_sqnr_db = 0.0;
  double cumulative_kl = 0.0;
  int chosen_weight_bits = 0;  // recommended under the target; 0: none
  int chosen_activation_bits = 0;
};

struct AnalyzeReport {
  /// The most sensitive first (by KL, then output error). Without sites whose bits are not chosen:
  /// embeddings and grouped convolutions.
  std::vector<SensitivityRow> sites;
  BitAllocationReport chosen;  // the recommended bits
  double target_weight_bits = 0.0;
  double target_activation_bits = 0.0;
  std::string protocol;  // calibration data and preprocessing
  int samples = 0;
  std::string output;  // recipe file; empty: none
  double seconds = 0.0;
};

/// Ranks the sites and recommends bits; writes the recipe if asked. Throws Error kUsage for
/// weight-only bits and targets that cannot be met, kUnsupported for a model that cannot be
/// differentiated, and as quantize() for model and data.
AnalyzeReport analyze(const AnalyzeOptions& options, const Observer& observer = {});

}  // namespace repquant
