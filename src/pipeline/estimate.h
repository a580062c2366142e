// How long a run of quantize will take and how much memory, before it starts.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "graph/model.h"
#include "graph/site.h"
#include "repquant/recipe.h"
#include "sweep/sweep.h"

namespace repquant {

/// What the work of one sweep is made of, for all calibration samples.
struct WorkTerms {
  double float_seconds = 0.0;      // FP32 model on all samples, one thread
  double fitted_values = 0.0;      // rows times (K + N), over the quantized Linears
  double operand_values = 0.0;     // of quantized attention products
  double fitted_macs = 0.0;        // Hessians and the rounding of rows, double precision
  double model_bytes = 0.0;        // resident before the sweep
  double code_bytes = 0.0;         // one for each quantized weight
  double alive_bytes = 0.0;        // activations alive at a site, both streams
  double largest_fit_bytes = 0.0;  // matrices and rows of the largest Linear
};

/// How fast this machine is, single-threaded.
struct MachineSpeed {
  double value_seconds = 0.0;  // one elementwise rounding of a float
  double mac_seconds = 0.0;    // one multiply-accumulate of a matrix product in double
};

struct Estimate {
  double seconds = 0.0;
  double bytes = 0.0;  // peak
};

/// Times two small kernels: some milliseconds.
MachineSpeed measure_speed();

/// Runs the FP32 model on the first samples of the first batch and adds up the terms. `workdir`:
/// activations spill to disk.
WorkTerms work_terms(const Model& model, const std::vector<Site>& sites,
                     const std::vector<SiteBits>& bits,
                     const std::vector<std::vector<at::Tensor>>& batches, bool workdir);

/// Rough: the constants were fitted to a few runs (docs/scaling.md) and hold to a factor of two.
Estimate estimate(const WorkTerms& work, const MachineSpeed& speed, const Recipe& recipe,
                  int threads);

/// "about 1 min 20 s and 0.9 GB of memory".
std::string to_string(const Estimate& estimate);

}  // namespace repquant
