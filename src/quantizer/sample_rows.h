// Rows that stand for more than can be looked at.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace repquant {

/// The row that stands for rows [group * stride, (group + 1) * stride) of `rows`, at a place that
/// moves: rows of tokens, heads or windows come round, and every so many of them may all be alike.
std::int64_t place_in(std::int64_t group, std::int64_t stride, std::int64_t rows);

/// One of every stride rows of x [n, ...], at most max_rows; which ones is fixed by n and max_rows.
/// With `weights` (float64 [n], >= 0, not all 0): max_rows rows in proportion to them, one from
/// each share of their sum, so that the plain mean over the result is the weighted mean over x.
at::Tensor sample_rows(const at::Tensor& x, std::int64_t max_rows, const at::Tensor& weights = {});

}  // namespace repquant
