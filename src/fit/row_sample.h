// Rows that a grid is fitted on.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "fit/row_source.h"
#include "fit/rows.h"

namespace repquant {

/// Values that the grid of a Linear is fitted on (64 MB).
inline constexpr std::int64_t kSampleValues = std::int64_t{1} << 24;

/// All rows where they hold at most `most_values`, with `row_weights` (float64 [rows], or
/// undefined: all alike) as they are. Else one of every so many rows, at a place that moves, so
/// that samples are not always seen at the same token, and for each half of the rows two rows of
/// weight 0, the extremes of every channel: they set ranges, but no error counts them.
WeightedRows sample_for_grid(const SourceRows& rows, const at::Tensor& row_weights, int threads,
                             std::int64_t most_values = kSampleValues);

}  // namespace repquant
