// What is missing in the value that a Linear's output is added to.
#pragma once

#include <ATen/core/Tensor.h>

#include "fit/row_identity.h"
#include "graph/walker.h"

namespace repquant {

/// The residual with an error that the output of `linear` is added to, and nothing else reads it;
/// null if there is none. What depends on no site, such as a learned position, has no error.
/// `quantized` as quantized_values() gives them.
const torch::jit::Value* residual_of(const torch::jit::Node* linear, const Schedule& schedule,
                                     const ValueSet& quantized);

/// floating - quantized for every element of an output of `shape`; undefined if the sum has another
/// shape than the output.
at::Tensor residual_error(const at::Tensor& floating, const at::Tensor& quantized,
                          at::IntArrayRef shape);

}  // namespace repquant
