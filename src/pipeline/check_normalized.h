// Whether the normalised graph computes what the model does.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "graph/model.h"
#include "graph/observe.h"

namespace repquant {

/// True for outputs that differ by at most 1e-3 of the largest, or, of whole numbers, in as many
/// elements, the first one aside. Throws Error kNumerical for an output without a finite number.
bool are_the_same(const std::vector<at::Tensor>& actual, const std::vector<at::Tensor>& expected);

/// Runs the file as it is and the normalised graph on one batch and compares their outputs: the
/// data must fit the model, and normalisation must not have changed it. Returns the graph's run.
/// Throws Error kUsage when the model fails on the data, kNumerical for outputs that are not
/// finite, kInternal where they are not the same, kUnsupported where the file itself differs as
/// much once frozen or with rounded inputs, or the model's doubt.
ObservedRun check_normalized(const Model& model, const std::vector<at::Tensor>& batch);

}  // namespace repquant
