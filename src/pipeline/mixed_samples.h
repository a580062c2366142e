// Models whose outputs for a sample hang on the other samples of its batch.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "graph/model.h"
#include "repquant/observer.h"

namespace repquant {

/// `outputs`: of `batch`, for a model that takes any number of samples. Throws Error kUsage if it
/// takes them in the second dimension: it runs, but each token counts as a sample. Warns of other
/// models that mix samples.
void check_not_mixed(const Model& model, const std::vector<at::Tensor>& batch,
                     const std::vector<at::Tensor>& outputs, const Observer& observer);

}  // namespace repquant
