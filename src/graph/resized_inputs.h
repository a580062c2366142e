// Inputs of other lengths and sizes, to see what of a model depends on them.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace repquant {

struct ResizedInputs {
  std::string shape;  // in words
  std::vector<at::Tensor> inputs;
};

/// Calls `take` with inputs some of whose axes (not the first, of samples) are cut or repeated:
/// axes of one size together, as tokens and their masks or both sides of an image have, then each
/// by itself. `take` says whether the model takes them; of axes that were taken no other size is
/// tried.
void try_other_sizes(const std::vector<at::Tensor>& batch,
                     const std::function<bool(const ResizedInputs&)>& take);

}  // namespace repquant
