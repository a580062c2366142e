// What one run of the floating-point model shows that its structure does not tell.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "graph/model.h"
#include "graph/walker.h"

namespace repquant {

struct Observed {
  std::unordered_map<const torch::jit::Value*, std::vector<std::int64_t>> shapes;
  /// Of tensors that are not float32.
  std::unordered_map<const torch::jit::Value*, at::ScalarType> types;
  Values numbers;  // everything that is not a tensor
  /// Multiply-accumulates of each product over the whole batch. What is in a loop counts for each
  /// turn; shapes and numbers of such values are not among those above.
  std::unordered_map<const torch::jit::Node*, std::int64_t> macs;
  std::int64_t samples = 1;
};

struct ObservedRun {
  Observed observed;
  std::vector<at::Tensor> outputs;
};

/// One batch of the model's inputs. Throws Error as run_graph().
ObservedRun observe(const Model& model, const std::vector<at::Tensor>& inputs);

}  // namespace repquant
