// Grids per token in the fused graph: codes and the grids of rows come from one operator.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/fuse.h"

namespace repquant {

/// A norm over the last dimension with constants, which an operator that makes codes of its output
/// computes on its way.
struct NormPattern {
  torch::jit::Node* node = nullptr;
  at::Tensor weight{}, bias{};
  double epsilon = 0.0;
  bool root_mean_square = false;

  /// The operators' first arguments.
  std::vector<torch::jit::NamedValue> arguments() const;
};

std::optional<NormPattern> norm_of(torch::jit::Node* node);

/// What multiplies and shifts each channel before a grid per token: x multiplier + offset, made for
/// the two calls alone.
struct ChannelScale {
  torch::jit::Value* x = nullptr;
  at::Tensor multiplier{}, offset{};
  std::vector<torch::jit::Node*> nodes{};  // last first
};

/// The two calls that find the grids of rows and make codes on them, of one value.
struct TokenCalls {
  SubmoduleCall range;
  SubmoduleCall quantize;
  std::int64_t top = 255;
  at::Tensor levels{};
  std::optional<ChannelScale> scale{};

  bool learned() const { return levels.numel() != top + 1; }
  /// The operators' argument `levels`.
  torch::jit::NamedValue codebook() const;
  /// Those named `multiplier` and `offset`.
  torch::jit::NamedValue multiplier() const;
  torch::jit::NamedValue offset() const;
  /// What is quantized, before channels are scaled.
  torch::jit::Value* source() const;
};

/// The pair that a call of TokenQuantize belongs to.
std::optional<TokenCalls> token_calls(const FusionContext& context, const SubmoduleCall& quantize);

/// The pair that reads `value`, or what its channels are scaled to, if nothing else does.
std::optional<TokenCalls> only_token_calls(const FusionContext& context,
                                           const torch::jit::Value* value);

/// Puts codes and the grids of rows in the place of the pair, which goes with its scale.
void replace_token_calls(FusionContext& context, const TokenCalls& grid, torch::jit::Value* codes,
                         torch::jit::Value* rows, const std::string& module);

}  // namespace repquant
