// Codes of a weight that are not all whole numbers of a range, but a few levels among them.
#pragma once

#include <ATen/core/Tensor.h>

#include "gptq/row_scale.h"

namespace repquant {

/// At most this many bits: above, whole numbers do as well.
inline constexpr int kMostCodebookBits = 4;

/// The largest absolute level. Sums of two products with u8 codes stay below 2^15 then, which
/// processors without VNNI need (format/classes/linear.py): 2 * 255 * 64 = 32640.
inline constexpr float kMaxWeightLevel = 64;

/// 2^bits levels for weight [N, K] (float32, contiguous) with a scale for each row: in turn the
/// scales that suit the levels (search_row_scale) and the levels that suit w / s (best_levels,
/// quantizer/levels.h), each weight counting by importance [K] (float32, >= 0) times s^2. Lloyd
/// (1982) for a scale family; rows beyond a sample of evenly spread ones are not looked at.
WeightCodes fit_codebook(const at::Tensor& weight, const at::Tensor& importance, int bits);

}  // namespace repquant
