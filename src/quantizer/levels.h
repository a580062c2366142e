// Levels of a codebook: one-dimensional k-means, solved exactly.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace repquant {

/// The largest level of a codebook, and the last bin of the sums that one is fitted to.
inline constexpr std::int64_t kMaxLevel = 255;

/// The 2^bits levels in 0..255 with the smallest weighted squared error, uint8, rising. `counts`
/// and `sums` are float64 [256]: weights of the values whose nearest integer is i, and weights
/// times values. Optimal by dynamic programming over intervals (one-dimensional k-means).
at::Tensor best_levels(const at::Tensor& counts, const at::Tensor& sums, int bits);

}  // namespace repquant
