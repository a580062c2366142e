#include "sweep/fit_attention.h"

#include <ATen/ATen.h>

#include "quantizer/affine.h"
#include "quantizer/range_search.h"

namespace repquant {
namespace {

/// Heads as the graph has them: axis -3 of tensors with at least four axes.
bool has_heads(const at::Tensor& operand) { return operand.dim() >= 4; }

/// Rows per head [n, H, d] of operands [.., H, T, d].
at::Tensor head_rows(const std::vector<at::Tensor>& batches, bool per_head) {
  std::vector<at::Tensor> rows;
  for (const auto& batch : batches) {
    const std::int64_t width = batch.size(-1);
    if (per_head) {
      rows.push_back(batch.transpose(-3, -2).reshape({-1, batch.size(-3), width}));
    } else {
      rows.push_back(batch.reshape({-1, 1, width}));
    }
  }
  return at::cat(rows);
}

/// Gram matrices [H, d, d] of operands [.., H, T, d], after removing each row set's own mean if
/// `centred` (scores of one query differ by a constant then, which softmax does not see).
at::Tensor head_gram(const std::vector<at::Tensor>& batches, bool per_head, bool centred) {
  at::Tensor sum;
  for (const auto& batch : batches) {
    const auto rows = centred ? batch - batch.mean(-2, /*keepdim=*/true) : batch;
    const auto grams = at::matmul(rows.transpose(-2, -1), rows);  // [.., H, d, d]
    const std::int64_t width = batch.size(-1);
    const auto part = grams.reshape({-1, per_head ? batch.size(-3) : 1, width, width}).sum(0);
    sum = sum.defined() ? sum + part : part;
  }
  return sum;
}

OperandQuantizer from_grid(const AffineGrid& grid) {
  OperandQuantizer quantizer;
  quantizer.bits = grid.bits;
  const bool single = grid.scale.numel() == 1;
  const std::vector<std::int64_t> shape =
      single ? std::vector<std::int64_t>{1} : std::vector<std::int64_t>{grid.scale.numel(), 1, 1};
  quantizer.scale = grid.scale.reshape(shape).contiguous();
  quantizer.zero_point = grid.zero_point.reshape(shape).contiguous();
  quantizer.multiplier = quantizer.scale.reciprocal();
  return quantizer;
}

}  // namespace

ScoresPlan fit_scores(const std::vector<at::Tensor>& left, const std::vector<at::Tensor>& right,
                      int bits, const AttentionRecipe& recipe, const at::Tensor& left_weights,
                      const at::Tensor& right_weights) {
  const bool per_head = recipe.per_head && has_heads(left[0]) && has_heads(right[0]) &&
                        left[0].size(-3) == right[0].size(-3);
  std::vector<at::Tensor> keys;  // [.., S, d]
  for (const auto& batch : right) keys.push_back(batch.transpose(-2, -1));
  SearchOptions plain, centred;
  plain.row_weights = per_head ? left_weights : at::Tensor();
  centred.row_weights = per_head ? right_weights : at::Tensor();
  centred.centred_error = true;
  ScoresPlan plan;
  plan.left = from_grid(search_per_head(head_rows(left, per_head),
                                        head_gram(keys, per_head, /*centred=*/true), bits, plain));
  plan.right = from_grid(search_per_head(
      head_rows(keys, per_head), head_gram(left, per_head, /*centred=*/false), bits, centred));
  return plan;
}

/// One grid per channel of V: the scale and the zero point leave the sum over tokens, so they cost
/// nothing (the product's columns are scaled anyway).
OperandQuantizer value_per_channel(const std::vector<at::Tensor>& value, int bits,
                                   const at::Tensor& weights) {
  const bool heads = has_heads(value[0]);
  const std::int64_t count = heads ? value[0].size(-3) : 1, width = value[0].size(-1);
  SearchOptions centred;
  centred.centred_error = true;
  centred.row_weights = weights;
  auto quantizer = from_grid(search_per_head(
      head_rows(value, heads).reshape({-1, count * width, 1}), {}, bits, centred));
  const std::vector<std::int64_t> shape =
      heads ? std::vector<std::int64_t>{count, 1, width} : std::vector<std::int64_t>{width};
  for (auto* part : {&quantizer.scale, &quantizer.zero_point, &quantizer.multiplier}) {
    *part = part->expand({count * width, 1, 1}).reshape(shape).contiguous();
  }
  return quantizer;
}

/// Codes per factor of two: as fine as still reaches the u8 table's smallest weight, 2^-8.
double steps_for(int bits) {
  switch (bits) {
    case 2:
    case 3:
      return 0.75;
    case 4:
      return 1.5;
    case 5:
    case 6:
      return 4;
    default:
      return 8;
  }
}

AttendPlan fit_attend(const std::vector<at::Tensor>& value, int bits,
                      const AttentionRecipe& recipe, const at::Tensor& weights) {
  AttendPlan plan;
  plan.bits = bits;
  const bool per_head = recipe.per_head && has_heads(value[0]);
  // Rows of softmax sum to one, so a constant error of V is a constant of the output, which the
  // bias of the next Linear takes up: score the error without its mean.
  SearchOptions centred;
  centred.centred_error = true;
  if (per_head) centred.row_weights = weights;
  plan.value = recipe.value_per_channel
                   ? value_per_channel(value, bits, weights)
                   : from_grid(search_per_head(head_rows(value, per_head), {}, bits, centred));
  plan.row_maximum = recipe.softmax_scaling == SoftmaxScaling::kRowMaximum;
  plan.grid.bits = bits;
  plan.grid.zero_code = recipe.zero_code;
  plan.uniform = recipe.softmax_grid == SoftmaxGrid::kUniform ||
                 (recipe.softmax_grid == SoftmaxGrid::kAuto && bits >= 8);
  plan.grid.steps_per_octave = recipe.log_steps_per_octave > 0 ? recipe.log_steps_per_octave
                                                               : steps_for(bits);
  const bool by_parity = bits <= 4 && (plan.grid.steps_per_octave == 2 ||
                                       plan.grid.steps_per_octave == 1);
  plan.grid.u8_table = !by_parity;
  return plan;
}

}  // namespace repquant
