// Matching of two sets of embeddings by cosine similarity, as pure functions.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

namespace repquant {

/// For each query the rank, from 0, of its match among the keys by cosine similarity; of equal keys
/// the first ranks first. queries [N, D], keys [M, D]; matches: N rows of the keys.
/// Throws Error kUsage for different D or a match that is no row.
std::vector<std::int64_t> match_ranks(const at::Tensor& queries, const at::Tensor& keys,
                                      std::span<const std::int64_t> matches);

}  // namespace repquant
