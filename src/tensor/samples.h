// Samples of a batch, which is a list of inputs that have them on their first axis. An input
// without dimensions belongs to all of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace repquant {

/// Of the model's inputs, [B, ...] each.
using Batches = std::vector<std::vector<at::Tensor>>;

/// Samples of a batch whose inputs all have them on the first axis; else 1.
std::int64_t sample_count(const std::vector<at::Tensor>& batch);

/// Whether the samples of two batches of the same inputs have the same shapes.
bool same_sample_shapes(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b);

/// Samples [from, to) of every input, or as many of them as there are.
std::vector<at::Tensor> samples_of(const std::vector<at::Tensor>& batch, std::int64_t from,
                                   std::int64_t to);

/// `count` samples, from the first one again where there are fewer. Every input has one at least.
std::vector<at::Tensor> repeated_samples(const std::vector<at::Tensor>& batch, std::int64_t count);

}  // namespace repquant
