// What products take in from behind them, and vectors as their kernels read them.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/jit/ir/ir.h>

#include <cstdint>
#include <optional>

#include "ops/kernels/kernels.h"

namespace repquant {

/// Of a node aten::relu, gelu, silu or hardswish; nothing for others.
std::optional<ops::Activation> fusible_activation(const torch::jit::Node* node);

/// The other summand if `node` adds one to `value`, unscaled; else null.
torch::jit::Value* other_summand(torch::jit::Node* node, const torch::jit::Value* value);

/// A vector over output channels, or one value for all, padded with zeros to whole panels or
/// another multiple.
at::Tensor padded(const at::Tensor& vector, std::int64_t channels,
                  std::int64_t multiple = ops::kPanel);

}  // namespace repquant
