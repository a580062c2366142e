#include "fit/attention.h"

#include <ATen/ATen.h>

#include <array>
#include <sstream>
#include <string>

#include "fit/head_room.h"
#include "fit/rows.h"
#include "quantizer/affine.h"
#include "quantizer/output_metric.h"
#include "quantizer/range_search.h"

namespace repquant {
namespace {

// Of the rows that grids of heads are searched on, and of those that judge them.
constexpr std::int64_t kSearchedRows = 512, kJudgedRows = 256;

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

OperandQuantizer operand_from(const AffineGrid& grid) {
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

AffineGrid widened_heads(const WeightedRows& rows, const AffineGrid& grid, double factor) {
  if (factor == 1.0) return grid;
  const Bounds bounds = widened(bounds_of(grid), rows.x.mean({0, 2}), factor);
  return affine_grid(bounds.lower.clamp_max(0), bounds.upper.clamp_min(0), grid.bits);
}

double heads_error(const WeightedRows& rows, const at::Tensor& gram, const AffineGrid& grid,
                   bool centred) {
  const at::Tensor x = sample_rows(rows.x, kJudgedRows, rows.weights);
  const AffineGrid columns{grid.bits, grid.scale.unsqueeze(1), grid.zero_point.unsqueeze(1)};
  const at::Tensor got = fake_quantize(x, columns);
  // Heads may be channels: all at once.
  if (!gram.defined()) return output_error(x.flatten(1), got.flatten(1), gram, centred);
  double sum = 0.0;
  for (std::int64_t head = 0; head < x.size(1); ++head) {
    sum += output_error(x.select(1, head), got.select(1, head), gram.select(0, head), centred);
  }
  return sum;
}

/// One grid per head for x [n, H, d], gram [H, d, d] or undefined, with as much head room as the
/// halves of the rows, each judged with the grid of the other one, ask for.
AffineGrid fit_heads(const at::Tensor& x, const at::Tensor& weights, const at::Tensor& gram,
                     int bits, bool centred, bool head_room) {
  const WeightedRows rows{x, weights};
  SearchOptions options;
  options.max_rows = kSearchedRows;
  options.centred_error = centred;
  options.row_weights = weights;
  AffineGrid grid = search_per_head(x, gram, bits, options);
  const std::vector<WeightedRows> halves = halves_of(rows);
  if (!head_room || halves.empty()) return grid;
  options.max_rows = kJudgedRows;
  std::array<AffineGrid, 2> grids;
  for (std::size_t i = 0; i < 2; ++i) {
    options.row_weights = halves[i].weights;
    grids[i] = search_per_head(halves[i].x, gram, bits, options);
  }
  const double factor = choose_head_room([&](double candidate) {
    double error = 0.0;
    for (std::size_t i = 0; i < 2; ++i) {
      error +=
          heads_error(halves[1 - i], gram, widened_heads(halves[i], grids[i], candidate), centred);
    }
    return error;
  });
  return widened_heads(rows, grid, factor);
}

/// One grid per channel of V: the scale and the zero point leave the sum over tokens, so they cost
/// nothing (the product's columns are scaled anyway).
OperandQuantizer value_per_channel(const std::vector<at::Tensor>& value, bool heads, int bits,
                                   const at::Tensor& weights, bool head_room) {
  const std::int64_t count = heads ? value[0].size(-3) : 1, width = value[0].size(-1);
  auto quantizer = operand_from(fit_heads(head_rows(value, heads).reshape({-1, count * width, 1}),
                                          weights, {}, bits, true, head_room));
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

}  // namespace

ScoresPlan fit_scores(const std::vector<at::Tensor>& left, const std::vector<at::Tensor>& right,
                      const ScoresSite& site, int bits, const AttentionRecipe& recipe,
                      const at::Tensor& left_weights, const at::Tensor& right_weights) {
  const bool per_head = recipe.per_head && site.heads && left[0].size(-3) == right[0].size(-3);
  std::vector<at::Tensor> keys;  // [.., S, d]
  for (const auto& batch : right) keys.push_back(batch.transpose(-2, -1));
  const at::Tensor none;
  ScoresPlan plan;
  plan.left = operand_from(fit_heads(head_rows(left, per_head), per_head ? left_weights : none,
                                     head_gram(keys, per_head, /*centred=*/site.softmax), bits,
                                     false, recipe.head_room));
  plan.right = operand_from(fit_heads(head_rows(keys, per_head), per_head ? right_weights : none,
                                      head_gram(left, per_head, /*centred=*/false), bits,
                                      site.softmax, recipe.head_room));
  return plan;
}

AttendPlan fit_attend(const std::vector<at::Tensor>& value, const AttendSite& site, int bits,
                      const AttentionRecipe& recipe, const at::Tensor& weights) {
  AttendPlan plan;
  plan.bits = bits;
  const bool heads = site.heads, per_head = recipe.per_head && heads;
  // Rows of softmax sum to one, so a constant error of V is a constant of the output, which the
  // bias of the next Linear takes up: score the error without its mean.
  plan.value =
      recipe.value_per_channel && site.columns
          ? value_per_channel(value, heads, bits, heads ? weights : at::Tensor(), recipe.head_room)
          : operand_from(fit_heads(head_rows(value, per_head), per_head ? weights : at::Tensor(),
                                   {}, bits, true, recipe.head_room));
  plan.row_maximum = recipe.softmax_scaling == SoftmaxScaling::kRowMaximum;
  plan.grid.bits = bits;
  plan.grid.zero_code = recipe.zero_code;
  plan.uniform = recipe.softmax_grid == SoftmaxGrid::kUniform ||
                 (recipe.softmax_grid == SoftmaxGrid::kAuto && bits >= 8);
  plan.grid.steps_per_octave =
      recipe.log_steps_per_octave > 0 ? recipe.log_steps_per_octave : steps_for(bits);
  const bool by_parity =
      bits <= 4 && (plan.grid.steps_per_octave == 2 || plan.grid.steps_per_octave == 1);
  plan.grid.u8_table = !by_parity;
  return plan;
}

std::string describe(const ScoresPlan& plan) {
  return plan.left.scale.numel() > 1 ? "per head" : "per tensor";
}

std::string describe(const AttendPlan& plan) {
  std::ostringstream text;
  if (plan.uniform) {
    text << "uniform u8 softmax grid";
  } else {
    text << "log2 softmax grid, " << plan.grid.steps_per_octave << " steps per octave";
  }
  text << (plan.row_maximum ? ", row maximum" : ", per tensor");
  text << (plan.value.scale.numel() > 1 ? "; v per head" : "; v per tensor");
  return text.str();
}

}  // namespace repquant
