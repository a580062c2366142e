// Which array of the data goes to which input of a model.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/past.h"

namespace repquant {

/// The inputs of a model's forward method.
struct ModelSignature {
  std::vector<std::string> names;  // without self
  std::size_t required = 0;        // the first so many have no default
  Past past;                       // of the last inputs: keys and values that data need not give
};

/// The tensors of `batch` in the order of forward(). A single array goes to the first input under
/// any name (one integer a sample only under the input's own), arrays without names go in their
/// order, others by name; labels are an input too where the model needs one named `labels` or `y`.
/// Keys and values of earlier tokens that are not given are empty: the samples begin with their
/// first token.
/// Throws Error kUsage, naming both sides, when number or names do not fit.
std::vector<at::Tensor> arrange_inputs(const Batch& batch, const ModelSignature& signature);

/// The mask of a batch of texts, [B, T], not 0 where there is text: its array named attention_mask
/// or mask; nullptr if it has none.
const at::Tensor* attention_mask(const Batch& batch);

/// The token ids of a batch of texts: its array named input_ids, else the first one.
const at::Tensor& token_ids(const Batch& batch);

}  // namespace repquant
