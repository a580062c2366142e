// The GPTQ Hessian H = X^T X: blocks of rows in float32, their sum in double.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace repquant {

/// Accumulates X^T X of float32 rows.
///
/// Rows are gathered into blocks of a fixed size before they enter the sum, so the result depends
/// on the rows and their order only, not on how they were split into batches.
class HessianAccumulator {
 public:
  explicit HessianAccumulator(std::int64_t columns);

  /// Adds rows x [..., columns]; leading axes are flattened.
  void add(const at::Tensor& x);
  /// Adds another accumulator's rows after this one's (ends both pending blocks).
  void merge(HessianAccumulator other);

  /// X^T X, double [K, K], symmetric.
  at::Tensor hessian();

 private:
  void flush();

  std::int64_t columns_;
  std::int64_t pending_rows_ = 0;
  at::Tensor pending_;  // float32 [block, K]
  at::Tensor sum_;      // double [K, K]
};

}  // namespace repquant
