// Codes of a weight that are not all whole numbers of a range, but a few levels among them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "gptq/row_scale.h"

namespace repquant {

/// At most this many bits: with 7, every other whole number of a byte is a level anyway.
inline constexpr int kMostCodebookBits = 6;

/// The largest absolute level. Up to 64, sums of two products with u8 codes stay below 2^15, which
/// makes them quicker on processors without VNNI (format/classes/linear.py): 2 * 255 * 64 = 32640.
/// More than 16 levels need the finer steps of 127.
constexpr int max_weight_level(int bits) { return bits <= 4 ? 64 : 127; }

/// 2^bits levels for weight [N, K] (float32, contiguous) with a scale for each `group_size` columns
/// of a row (K: for the row): in turn the scales that suit the levels (search_row_scale) and the
/// levels that suit w / s (best_levels, quantizer/levels.h), each weight counting by importance [K]
/// (float32, >= 0) times s^2. Lloyd (1982) for a scale family; rows beyond a sample of evenly
/// spread ones are not looked at.
WeightCodes fit_codebook(const at::Tensor& weight, const at::Tensor& importance, int bits,
                         std::int64_t group_size);

}  // namespace repquant
