// Calibration rows behind each other, and what each of them counts.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace repquant {

struct WeightedRows {
  at::Tensor x;        // [n, ...]
  at::Tensor weights;  // float64 [n], or undefined: all alike
};

/// All rows of the batches [.., K], in order: [n, K], contiguous.
at::Tensor rows_of(const std::vector<at::Tensor>& batches);

/// True if no value is NaN or infinite (no float32 activation sum overflows a double).
bool is_finite(const at::Tensor& x);

/// All sets behind each other, half by half (see halves_of()), with weights of mean 1 by which
/// every set counts alike. One set that alone has rows is left as it is. At least one set.
WeightedRows joined(const std::vector<WeightedRows>& sets);

/// Weighted sum of rows [n, K], float64 [K]; `weights` float64 [n] or undefined.
at::Tensor weighted_sum(const at::Tensor& rows, const at::Tensor& weights);

/// Weighted mean of rows [n, K], float64 [K]; `weights` float64 [n] or undefined.
at::Tensor weighted_mean(const at::Tensor& rows, const at::Tensor& weights);

/// What `rows` rows count for in sums: effective_rows() of their weights, all of them without.
double counted_rows(const at::Tensor& weights, std::int64_t rows);

/// The first and the second half of the rows, which cross-validation fits on and judges with in
/// turn; none where there are fewer than two rows.
std::vector<WeightedRows> halves_of(const WeightedRows& rows);

}  // namespace repquant
