// Floating-point evaluation of site plans: the reference that the lowered integer form must match.
//
// All functions round half to even (at::round), as the whole tool does. Integer products are
// evaluated in float32 on integer-valued codes, so they are exact below 2^24.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "plan/site_plan.h"

namespace repquant {

/// The uniform grid per token at `bits` bits (2..8), nothing folded.
InputQuantizer per_token_quantizer(int bits);

/// What a grid per token spans: the rows u = x m + a, float32 [.., K], of the unfolded input x.
at::Tensor token_rows(const at::Tensor& x, const InputQuantizer& quantizer);

/// Rows [.., K] as groups of columns, [.., G, group_size], and back. A last group that is not full
/// gets the row's last value for the rest; without groups the rows are one group, as they are.
at::Tensor split_groups(const at::Tensor& rows, const InputQuantizer& quantizer);
at::Tensor join_groups(const at::Tensor& groups, const InputQuantizer& quantizer,
                       std::int64_t columns);

/// The grid of each row: u^ = low + step l. A step is at least the smallest normal number, so that
/// a constant row has codes 0.
struct TokenGrids {
  at::Tensor low, step;  // float32 [.., 1]
};

/// The grids of rows as token_rows() gives them, or of groups as split_groups() does.
TokenGrids token_grids(const at::Tensor& rows, const InputQuantizer& quantizer);

/// The level of every code of a codebook's fine grid, uint8 [256]: the one that is nearest to it,
/// of two the lower one. `levels` as InputQuantizer has them.
at::Tensor level_table(const at::Tensor& levels);

/// What the lowest value of a row counts for under a grid per token: the sums of the weight's rows,
/// float32 [N].
at::Tensor weight_sums(const QuantizedWeight& weight);

/// Codes of a Linear's float input, as integer-valued float32 in [0, 2^b - 1]; not squared for the
/// quadratic form, indices of levels where there are any. `x` is the unfolded input [.., K].
at::Tensor encode(const at::Tensor& x, const InputQuantizer& quantizer);

/// Same codes for every input.
bool same_codes(const InputQuantizer& a, const InputQuantizer& b);

/// What enters the integer product: the codes, squared for the quadratic form, or their levels.
at::Tensor product_codes(const at::Tensor& codes, const InputQuantizer& quantizer);

/// What the weights are fitted to, in units of the quantizer's scale: the product codes of x
/// [.., K] without their zero point; under a grid per token the values u^.
at::Tensor product_input(const at::Tensor& x, const InputQuantizer& quantizer);

/// The quantized input in floating point, in the units of `x` (before a fold): (codes - a) / m.
at::Tensor fake_quantize(const at::Tensor& x, const InputQuantizer& quantizer);

/// Codes of an attention operand: clamp(round(x m + z), 0, 2^b - 1), integer-valued float32.
at::Tensor encode(const at::Tensor& x, const OperandQuantizer& quantizer);

/// The quantized operand in floating point, scale (codes - zero point).
at::Tensor fake_quantize(const at::Tensor& x, const OperandQuantizer& quantizer);

/// Codes of the side columns, integer-valued float32 [.., m]; `x` is the unfolded input [.., K].
at::Tensor encode_side(const at::Tensor& x, const SideColumns& side);

/// Output of a quantized Linear, float32 [.., N], from its unfolded input [.., K].
at::Tensor simulate_linear(const LinearPlan& plan, const at::Tensor& x);

/// The same from the site's integer-valued codes: `codes` as `encode` gives them (not squared) and
/// `side_codes` as `encode_side` (undefined without side columns). Not for a grid per token.
at::Tensor linear_from_codes(const LinearPlan& plan, const at::Tensor& codes,
                             const at::Tensor& side_codes);

/// The rows of `indices` (int64 or int32, any shape), dequantized: float32 [.., D].
at::Tensor simulate_embedding(const EmbeddingPlan& plan, const at::Tensor& indices);

/// Output of a quantized convolution, float32 [B, N, sizes..], from x [B, C, sizes..].
at::Tensor simulate_convolution(const GroupedConvolutionPlan& plan, const at::Tensor& x);

/// Codes of rows [.., d] on a scale of each row's own: s = max|u| / top, at least 2^-126.
/// 8 bits: c = round(u / s), top = 127. Below: odd numbers, c = 2 round((u / s - 1) / 2) + 1 with
/// top = 2^bits - 1, so that all 2^bits of them lie evenly on both sides of 0 and need no zero
/// point.
struct OperandRows {
  at::Tensor codes;  // float32, as rows
  at::Tensor scale;  // [.., 1]
};
OperandRows operand_rows(const at::Tensor& rows, int bits);
/// Of x [.., d] as an operand with a scale for each token sees it, u = x multiplier + zero_point.
OperandRows operand_rows(const at::Tensor& x, const OperandQuantizer& quantizer);

/// Largest code of operand_rows().
std::int64_t operand_top(int bits);

/// Scores [.., T, S] as they may be compared: those of keys that the plan centres for scales of
/// tokens lack a constant of each row, which softmax does not see; its mean is removed then.
at::Tensor comparable_scores(const ScoresPlan& plan, const at::Tensor& scores);

/// The operands of simulate_scores() as their codes have them.
struct ScoresOperands {
  at::Tensor left, right;  // [.., T, d], [.., d, S]
};
ScoresOperands simulate_operands(const ScoresPlan& plan, const at::Tensor& left,
                                 const at::Tensor& right);

/// left right of an attention block, both quantized. [.., T, d] x [.., d, S] -> [.., T, S].
at::Tensor simulate_scores(const ScoresPlan& plan, const at::Tensor& left, const at::Tensor& right);

/// Weights of the quantized softmax before division, float32 [.., T, S]: a row-relative weight in
/// [0, 1] with `row_maximum`, else a quantized probability. Rows that are -inf throughout give 0.
at::Tensor simulate_softmax_weights(const AttendPlan& plan, const at::Tensor& scores);

/// Quantized softmax over the last dimension times quantized value.
/// `scores` [.., T, S] after scale and mask, before softmax; `value` [.., S, d].
/// Rows that are masked throughout (-inf) give 0, never NaN.
at::Tensor simulate_attend(const AttendPlan& plan, const at::Tensor& scores,
                           const at::Tensor& value);

/// The output of any site from its operands: {x}, {left, right}, {scores, value} or {indices}.
at::Tensor simulate(const SitePlan& plan, const std::vector<at::Tensor>& operands);

}  // namespace repquant
