// One pass of the model over some samples: whether it takes them, and how large it is.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "graph/model.h"

namespace repquant {

struct Pass {
  std::optional<std::string> refused;  // why the model does not take the batch
  std::int64_t macs = 0;
  std::int64_t largest = 0;  // value, in elements
};

/// Throws Error kResource where memory runs out.
Pass try_pass(const Model& model, const std::vector<at::Tensor>& batch);

/// Samples at a time where the recipe does not say how many, by a pass over one of them: larger
/// values than so many elements outgrow the blocks that are kept for the next ones
/// (runtime/keep_memory.h). Hangs on the model and the data alone, so that a run that is resumed
/// has the same batches.
int chosen_batch_size(const Pass& one);

}  // namespace repquant
