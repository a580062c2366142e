#include "quantizer/adam.h"

#include <ATen/ATen.h>

#include <cmath>

namespace repquant {

Adam::Adam(const at::Tensor& like, AdamOptions options)
    : options_(options), state_{at::zeros_like(like), at::zeros_like(like)} {}

at::Tensor Adam::step(const at::Tensor& gradient) {
  constexpr double kFirst = 0.9;
  const double decay = options_.second_decay;
  auto& [first, second, steps] = state_;
  ++steps;
  first.mul_(kFirst).add_(gradient, 1 - kFirst);
  second.mul_(decay).addcmul_(gradient, gradient, 1 - decay);
  const auto count = static_cast<double>(steps);
  return first / (1 - std::pow(kFirst, count)) /
         ((second / (1 - std::pow(decay, count))).sqrt_().add_(options_.epsilon));
}

}  // namespace repquant
