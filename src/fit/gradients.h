// Gradients of random projections of a model's outputs, at values inside its graph.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "fit/blocks.h"
#include "graph/walker.h"

namespace repquant {

struct DifferentiateOptions {
  std::unordered_set<const torch::jit::Value*> wanted;  // values whose gradients are asked for
  std::unordered_set<const torch::jit::Value*> kept;    // values to hand back as they were
  std::uint64_t seed = 0;                               // of the random signs
  bool with_logits = false;                             // fill in logits_gradients, too
  /// Stretches that cover the schedule. Of each but the last one only what is alive at its begin is
  /// kept, and it is run again for the backward pass, so that the intermediate values of one are in
  /// memory at a time. Empty: the graph is run once, as a whole.
  std::vector<GraphBlock> blocks;
  /// Gets every gradient of the outputs, in the place of Differentiated::outputs_gradients.
  std::function<void(const torch::jit::Value*, const at::Tensor&)> see_gradient;
};

using TensorByValue = std::unordered_map<const torch::jit::Value*, at::Tensor>;

struct Differentiated {
  /// g = J^T r with random signs r: E[(g e)^2] = |J e|^2, the squared error of the outputs for an
  /// error e of the value. Values that the outputs do not depend on are left out.
  TensorByValue outputs_gradients;
  /// The same with r of covariance diag(p) - p p^T, p = softmax of each output row [.., C]: E[(g
  /// e)^2] / 2 is the second-order KL divergence, in nats, summed over the rows.
  TensorByValue logits_gradients;
  TensorByValue kept;
  std::vector<at::Tensor> outputs;  // floating-point ones
};

/// One forward pass of `batch` (two with blocks) and one backward pass (two with logits). Empty
/// gradients where the outputs depend on none of the values. Throws c10::Error or Error for a model
/// that cannot be run or differentiated.
Differentiated differentiate(const torch::jit::Graph& graph, const Schedule& schedule,
                             const std::vector<at::Tensor>& batch,
                             const DifferentiateOptions& options);

/// Samples of a backward pass: what it keeps grows with them.
inline constexpr std::int64_t kSamplesAtOnce = 2;

/// Calls `run` for kSamplesAtOnce samples of the batch after the other, with a seed for each part.
void for_each_part(const std::vector<at::Tensor>& batch, std::uint64_t seed,
                   const std::function<void(const std::vector<at::Tensor>&, std::uint64_t)>& run);

}  // namespace repquant
