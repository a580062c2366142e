// Why a model fails on inputs that have the right number and names.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "repquant/error.h"

namespace repquant {

/// What of `inputs`, [samples, ...] each, a model does not take, learned by running it on parts of
/// them: ids outside its vocabulary, samples longer than its context, a mask of another length than
/// its ids, another number of samples, samples in the first dimension. `names`: of the inputs, or
/// of some. Only `what`, `expected`, `got` and `hint` are filled; all are empty if none of these is
/// the cause.
ErrorParts explain_failure(const std::vector<at::Tensor>& inputs,
                           const std::vector<std::string>& names,
                           const std::function<bool(const std::vector<at::Tensor>&)>& runs);

/// For a model whose samples are in the second dimension of these inputs.
ErrorParts samples_second(const std::vector<std::string>& inputs);

}  // namespace repquant
