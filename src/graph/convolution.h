// Reading convolutions off a graph.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace torch::jit {
struct Node;
}  // namespace torch::jit

namespace repquant {

/// A convolution with constant weights, in any spelling. Lists have an entry for each dimension.
struct Convolution {
  at::Tensor weight;  // [out, in / groups, kernel..] float32
  at::Tensor bias;    // [out] or undefined
  std::vector<std::int64_t> kernel, stride, dilation;
  std::vector<std::int64_t> before, after;  // zeros that are added on either side
  std::int64_t groups = 1;

  std::size_t dimensions() const { return kernel.size(); }
  bool padded() const;
};

/// Nothing for other nodes, for transposed convolutions, for what is not constant, and for an input
/// that is known to have no batch.
std::optional<Convolution> read_convolution(const torch::jit::Node* node);

/// A transposed one in the same way: `weight` is [in, out / groups, kernel..], `before` what is cut
/// off on both sides, `after` what is added behind (output_padding).
std::optional<Convolution> read_transposed_convolution(const torch::jit::Node* node);

/// True for a node that read_transposed_convolution() may read.
bool is_transposed_convolution(const torch::jit::Node* node);

/// True for a node that read_convolution() may read: its output's axis 1 has the weight's rows.
bool is_convolution(const torch::jit::Node* node);

}  // namespace repquant
