#include "gptq/shrinkage.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "tensor/check.h"

namespace repquant {

double shrinkage_damping(const at::Tensor& hessian, double rows) {
  require(hessian.dim() == 2 && hessian.size(0) == hessian.size(1) && rows > 0, "shrinkage_damping",
          "a Hessian [K, K] and a positive number of rows");
  constexpr double kMost = 10.0;
  const auto columns = static_cast<double>(hessian.size(0));
  const double trace = hessian.diagonal().sum().item<double>();
  const double squares = hessian.square().sum().item<double>();  // tr(H^2)
  if (!(trace > 0) || !(squares > 0)) return 0.0;
  const double numerator = (1 - 2 / columns) * squares + trace * trace;
  const double denominator = (rows + 1 - 2 / columns) * (squares - trace * trace / columns);
  // share (trace / K) I + (1 - share) H
  if (!(denominator > 0)) return kMost;
  const double share = std::min(1.0, numerator / denominator);
  return share < 1 ? std::min(kMost, share / (1 - share)) : kMost;
}

double effective_rows(const at::Tensor& weights) {
  const double sum = weights.sum().item<double>();
  const double squares = weights.square().sum().item<double>();
  return squares > 0 ? sum * sum / squares : 0.0;
}

}  // namespace repquant
