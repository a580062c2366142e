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
                      int bits, const AttentionRecipe& recipe) {
  const bool per_head = recipe.per_head && has_heads(left[0]) && has_heads(right[0]) &&
                        left[0].size(-3) == right[0].size(-3);
  std::vector<at::Tensor> keys;  // [.., S, d]
  for (const auto& batch : right) keys.push_back(batch.transpose(-2, -1));
  SearchOptions centred;
  centred.centred_error = true;
  ScoresPlan plan;
  plan.left = from_grid(search_per_head(head_rows(left, per_head),
                                        head_gram(keys, per_head, /*centred=*/true), bits));
  plan.right = from_grid(search_per_head(
      head_rows(keys, per_head), head_gram(left, per_head, /*centred=*/false), bits, centred));
  return plan;
}

AttendPlan fit_attend(const std::vector<at::Tensor>& value, int bits,
                      const AttentionRecipe& recipe) {
  AttendPlan plan;
  plan.bits = bits;
  const bool per_head = recipe.per_head && has_heads(value[0]);
  // Rows of softmax sum to one, so a constant error of V is a constant of the output, which the
  // bias of the next Linear takes up: score the error without its mean.
  SearchOptions centred;
  centred.centred_error = true;
  plan.value = from_grid(search_per_head(head_rows(value, per_head), {}, bits, centred));
  plan.row_maximum = recipe.softmax_scaling == SoftmaxScaling::kRowMaximum;
  plan.grid.bits = bits;
  plan.grid.zero_code = recipe.zero_code;
  plan.uniform = recipe.softmax_grid == SoftmaxGrid::kUniform ||
                 (recipe.softmax_grid == SoftmaxGrid::kAuto && bits >= 8);
  plan.grid.steps_per_octave = recipe.log_steps_per_octave > 0 ? recipe.log_steps_per_octave
                               : bits <= 4                     ? 2
                               : bits <= 6                     ? 4
                                                               : 8;
  plan.grid.u8_table = bits > 4;
  return plan;
}

}  // namespace repquant
