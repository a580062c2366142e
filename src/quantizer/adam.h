// Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>

namespace repquant {

struct AdamOptions {
  double second_decay = 0.999;  // beta 2; beta 1 is 0.9
  double epsilon = 1e-8;        // above the root of the second moment
};

/// Running means of the gradients of one tensor of parameters and of their squares, in its type.
struct AdamState {
  at::Tensor first, second;
  std::int64_t steps = 0;
};

/// Adam on one tensor of parameters.
class Adam {
 public:
  Adam(const at::Tensor& like, AdamOptions options);
  /// Goes on from a state().
  Adam(AdamState state, AdamOptions options) : options_(options), state_(std::move(state)) {}

  const AdamState& state() const { return state_; }

  /// Takes in a gradient. Returns what to take from the parameters for a learning rate of 1.
  at::Tensor step(const at::Tensor& gradient);

 private:
  AdamOptions options_;
  AdamState state_;
};

}  // namespace repquant
