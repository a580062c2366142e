// What a run takes at least, known before its long work.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "fit/site_bits.h"
#include "graph/model.h"
#include "graph/site.h"
#include "repquant/recipe.h"

namespace repquant {

/// Bytes beyond the model and the samples, and what takes them.
struct MemoryNeed {
  std::int64_t bytes = 0;
  std::string what;  // "the fit of blocks.0.fc1", "the activations of one batch"
};

/// How many samples there are like the one that the model is run on.
struct SampleTimes {
  std::int64_t in_batch = 1;
  std::int64_t in_all = 1;  // batches
};

/// The largest of: the sums that the fit of a Linear needs on the rows of all samples, and the
/// values of a batch that are alive at one time, each beside the codes of the sites before. A lower
/// bound: what a run is sure to take, with all other activations on disk. Runs the model on the
/// sample, as it is.
MemoryNeed least_memory(const Model& model, const std::vector<Site>& sites,
                        const std::vector<SiteBits>& bits, const WeightRecipe& recipe,
                        const std::vector<at::Tensor>& sample, const SampleTimes& times);

}  // namespace repquant
