// Embeddings: pooling, cosine similarity, and how it ranks pairs, as pure functions.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "data/dataset.h"
#include "evaluate/session.h"
#include "evaluate/statistics.h"

namespace repquant {

/// Embeddings in double, [B, D]: an output [B, D] as it is, an output [B, T, D] as the mean over
/// the positions whose mask is not 0. The mask, [B, T], is the batch's array named attention_mask;
/// without one all positions count. Throws Error kUsage for other shapes and a mask of zeros.
at::Tensor pooled(const at::Tensor& output, const Batch& batch);

/// Cosine similarity of rows, [N] from two [N, D]; 0 where a row is all zeros.
std::vector<double> cosines(const at::Tensor& left, const at::Tensor& right);

/// Rows scaled to length 1 (rows of zeros stay), [N, D].
at::Tensor normalized(const at::Tensor& embeddings);

/// Sizes of the outputs' last dimension for the first sample.
std::vector<std::int64_t> embedding_widths(const Session& session);

/// Throws Error kUsage for outputs of other widths, such as similarities of all samples of a batch.
void check_widths(const std::vector<at::Tensor>& outputs, std::span<const std::int64_t> widths);

}  // namespace repquant
