#include "quantizer/adam.h"

#include <ATen/ATen.h>

#include <cmath>

namespace repquant {

Adam::Adam(const at::Tensor& like, AdamOptions options)
    : options_(options), first_(at::zeros_like(like)), second_(at::zeros_like(like)) {}

at::Tensor Adam::step(const at::Tensor& gradient) {
  constexpr double kFirst = 0.9;
  const double second = options_.second_decay;
  ++steps_;
  first_.mul_(kFirst).add_(gradient, 1 - kFirst);
  second_.mul_(second).addcmul_(gradient, gradient, 1 - second);
  return first_ / (1 - std::pow(kFirst, steps_)) /
         ((second_ / (1 - std::pow(second, steps_))).sqrt_().add_(options_.epsilon));
}

}  // namespace repquant
