// The GPTQ Hessian H = X^T X, in double.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace repquant {

/// Accumulates X^T X and the column sums of float32 rows.
///
/// Rows are gathered into blocks of a fixed size before they enter the sums, so the result depends
/// on the rows and their order only, not on how they were split into batches.
class HessianAccumulator {
 public:
  explicit HessianAccumulator(std::int64_t columns);

  /// Adds rows x [..., columns]; leading axes are flattened.
  void add(const at::Tensor& x);
  /// Adds another accumulator's rows after this one's (ends both pending blocks).
  void merge(HessianAccumulator other);

  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  /// X^T X, double [K, K], symmetric.
  at::Tensor hessian();
  /// (X - mean)^T (X - mean): the Hessian where a bias correction takes up the mean error.
  at::Tensor centred_hessian();
  /// Mean of the rows, double [K].
  at::Tensor mean();

 private:
  void flush();

  std::int64_t columns_;
  std::int64_t rows_ = 0;
  std::int64_t pending_rows_ = 0;
  at::Tensor pending_;  // float32 [block, K]
  at::Tensor sum_;      // double [K, K]
  at::Tensor total_;    // double [K]
};

/// Accumulates the rows of all batches [..., K] on `threads` threads: in four fixed ranges of whole
/// blocks (two where K > 2048, as each range has a sum of its own), merged in a fixed tree. Depends
/// on the rows and their order only, not on `threads` nor on how they are split into batches.
HessianAccumulator accumulate_hessian(const std::vector<at::Tensor>& batches, int threads);

}  // namespace repquant
