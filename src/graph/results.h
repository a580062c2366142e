// Which outputs of a model say something of its samples.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "graph/walker.h"

namespace repquant {

/// True for an input of the graph and for an element of one.
bool is_given(const torch::jit::Value* value);

/// The tensors of the outputs, in order, without those that only continue an input: a decoder that
/// keeps keys and values gives cat([past, new]) back for its next call. By them errors would count
/// that the results show anyway, where these are read. All of them if nothing else is given.
std::vector<at::Tensor> result_tensors(const torch::jit::Graph& graph,
                                       const std::vector<c10::IValue>& outputs);
/// Those of the graph's outputs, which must be among `values`.
std::vector<at::Tensor> result_tensors(const torch::jit::Graph& graph, const Values& values);

/// The first output that can be logits: floating point, more than one value a row. Rows that all
/// have the same norm are embeddings. Undefined if there is none.
at::Tensor logits_in(const std::vector<at::Tensor>& outputs);

}  // namespace repquant
