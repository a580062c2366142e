// The error of a consumer's output, tr(dX G dX^T), in the cheapest form that G allows.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace repquant {

/// G [K, K] positive semi-definite, kept as it is or, where its rank is at most K / 2, as L [K, r]
/// with G = L L^T. Undefined G means the identity.
class OutputMetric {
 public:
  OutputMetric(const at::Tensor& gram, std::int64_t columns, bool centred);

  /// Mean over the rows of error G error^T for error [n, K] float32; centred: of error - its mean.
  double of(const at::Tensor& error) const;
  /// Whether of() is a plain sum of squares, for which no error matrix is needed.
  bool plain() const { return !factor_.defined() && !gram_.defined() && !centred_; }
  /// Multiply-accumulates per row.
  std::int64_t cost() const;

 private:
  at::Tensor gram_;    // float32 [K, K], if not factored
  at::Tensor factor_;  // float32 [K, r]
  std::int64_t columns_;
  bool centred_;
};

}  // namespace repquant
