// Models whose outputs for a sample hang on the other samples of its batch.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "repquant/observer.h"

namespace repquant {

/// A model that takes any number of samples.
struct BatchModel {
  std::string path;
  std::vector<std::string> input_names;
  std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)> run;
};

/// `outputs`: of `batch`. Throws Error kUsage if the model takes the samples in the second
/// dimension: it runs, but each token counts as a sample. Warns of other models that mix samples.
void check_not_mixed(const BatchModel& model, const std::vector<at::Tensor>& batch,
                     const std::vector<at::Tensor>& outputs, const Observer& observer);

}  // namespace repquant
