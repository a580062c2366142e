// Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1).
#pragma once

#include <ATen/core/Tensor.h>

namespace repquant {

struct AdamOptions {
  double second_decay = 0.999;  // beta 2; beta 1 is 0.9
  double epsilon = 1e-8;        // above the root of the second moment
};

/// The moments of one tensor of parameters, float64.
class Adam {
 public:
  Adam(const at::Tensor& like, AdamOptions options);

  /// Takes in a gradient. Returns what to take from the parameters for a learning rate of 1.
  at::Tensor step(const at::Tensor& gradient);

 private:
  AdamOptions options_;
  at::Tensor first_, second_;
  int steps_ = 0;
};

}  // namespace repquant
