// How much the model's outputs depend on each site: squared gradients on the calibration data.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "graph/site.h"
#include "graph/walker.h"
#include "tensor/samples.h"

namespace repquant {

/// E[g^2] of one value [.., T, N] at a site, g the gradient of a random projection of the outputs.
struct Sensitivity {
  std::vector<at::Tensor> tokens;  // per batch, float64 [rows]: mean over channels
  at::Tensor channels;             // float64 [N]: mean over all tokens
  /// Per batch, float64 [rows]: 0 for tokens on which the outputs depend at no site at all (those
  /// that pad a sentence), else 1. Values with as many rows share it.
  std::vector<at::Tensor> used;
  std::int64_t channel_axis = -1;  // -2 for the right operand of q k^T
};

/// By graph value: outputs of Linear sites [.., N], and operands of attention products, whose rows
/// are all but the channel axis, without heads: left and value [.., H, T, d], right [.., H, d, S].
/// What is a Linear's output and an operand counts as the former.
using Sensitivities = std::unordered_map<const torch::jit::Value*, Sensitivity>;

/// A forward and a backward pass over the batches, two samples and one block of the graph at a
/// time, so that memory depends neither on layers nor on samples. The projection has random signs,
/// so that E[g g^T] is the Gauss-Newton matrix of the squared output error (the weighting of
/// GuidedQuant, arXiv 2505.07004). Values without a gradient are left out; a model that cannot be
/// differentiated gives an empty result. Deterministic, whatever `threads`.
Sensitivities measure_sensitivity(
    const torch::jit::Graph& graph, const Schedule& schedule, const std::vector<Site>& sites,
    const Batches& batches, int threads, const std::function<void()>& check_interrupt = [] {});

/// What was measured of a value; null if nothing was.
const Sensitivity* find_sensitivity(const Sensitivities& all, const torch::jit::Value* value);

/// weights_of_squares() of the tokens of all batches behind each other, float64, unused ones with
/// 0; undefined for share 0 or where nothing was measured.
at::Tensor row_weights(const Sensitivity* sensitivity, double share);

/// row_weights() of some batches of an operand whose channels are on `axis`; `first` is its value
/// in the first batch. Undefined, too, where the value's rows are known in another order, as those
/// of a Linear that has heads in front of its rows.
at::Tensor operand_weights(const Sensitivity* sensitivity, const at::Tensor& first,
                           std::int64_t axis, const std::vector<std::size_t>& batches,
                           double share);

/// Weights of mean 1 by squared gradients: share * r / mean(r) + (1 - share) * used / mean(used),
/// r = squares^(3/4); without `used` all are. Undefined where a mean is not a positive number.
at::Tensor weights_of_squares(const at::Tensor& squares, double share, const at::Tensor& used = {});

}  // namespace repquant
