#include "fit/attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <limits>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "fit/head_room.h"
#include "fit/rows.h"
#include "plan/simulate.h"
#include "quantizer/affine.h"
#include "quantizer/range_search.h"
#include "quantizer/sample_rows.h"

namespace repquant {
namespace {

// Of the rows that grids of heads are searched on, of those that judge them, and of either where
// channels are equalized or not.
constexpr std::int64_t kSearchedRows = 512, kJudgedRows = 256, kComparedRows = 96;

/// The share of the error that equalization may leave. With 8 bits it is the ranges that decide,
/// and those of a widest channel leave the others room on data that was not seen: only a channel
/// that takes nearly all codes for itself is worth it (docs/decisions-accuracy.md, section 17).
constexpr double worth_of_equalization(int bits) { return bits < 8 ? 0.9 : 0.25; }
// Of a centred channel: leaves codes a hundredth of a step of rounding.
constexpr double kLargestZeroPoint = 65536;

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

/// What grids of heads are fitted to.
struct HeadOperand {
  WeightedRows rows;     // x [n, H, d]
  at::Tensor gram;       // [H, d, d] of what multiplies it, or undefined
  bool centred = false;  // the error counts without its mean
};

/// Of rows x [n, H, d] that became `got`.
double rows_error(const HeadOperand& operand, const at::Tensor& x, const at::Tensor& got) {
  const at::Tensor& gram = operand.gram;
  // Heads may be channels: all at once.
  if (!gram.defined()) return output_error(x.flatten(1), got.flatten(1), gram, operand.centred);
  double sum = 0.0;
  for (std::int64_t head = 0; head < x.size(1); ++head) {
    sum +=
        output_error(x.select(1, head), got.select(1, head), gram.select(0, head), operand.centred);
  }
  return sum;
}

double heads_error(const HeadOperand& operand, const WeightedRows& rows, const AffineGrid& grid,
                   std::int64_t most) {
  const at::Tensor x = sample_rows(rows.x, most, rows.weights);
  const AffineGrid columns{grid.bits, grid.scale.unsqueeze(1), grid.zero_point.unsqueeze(1)};
  return rows_error(operand, x, fake_quantize(x, columns));
}

/// One grid per head for each half of the rows, as `halves` are.
std::vector<AffineGrid> grids_of_halves(const HeadOperand& operand,
                                        const std::vector<WeightedRows>& halves, int bits,
                                        std::int64_t most) {
  SearchOptions options;
  options.max_rows = most;
  options.centred_error = operand.centred;
  std::vector<AffineGrid> grids;
  for (const WeightedRows& half : halves) {
    options.row_weights = half.weights;
    grids.push_back(search_per_head(half.x, operand.gram, bits, options));
  }
  return grids;
}

/// One grid per head, with as much head room as the halves of the rows, each judged with the grid
/// of the other one, ask for.
AffineGrid fit_heads(const HeadOperand& operand, int bits, bool head_room) {
  const WeightedRows& rows = operand.rows;
  SearchOptions options;
  options.max_rows = kSearchedRows;
  options.centred_error = operand.centred;
  options.row_weights = rows.weights;
  AffineGrid grid = search_per_head(rows.x, operand.gram, bits, options);
  const std::vector<WeightedRows> halves = halves_of(rows);
  if (!head_room || halves.empty()) return grid;
  const std::vector<AffineGrid> grids = grids_of_halves(operand, halves, bits, kJudgedRows);
  const double factor = choose_head_room([&](double candidate) {
    double error = 0.0;
    for (std::size_t i = 0; i < 2; ++i) {
      error += heads_error(operand, halves[1 - i], widened_heads(halves[i], grids[i], candidate),
                           kJudgedRows);
    }
    return error;
  });
  return widened_heads(rows, grid, factor);
}

/// Both operands of scores, rows in the order of tokens.
struct ScoreOperands {
  HeadOperand left, right;
};

/// q' = q ratio, k' = (k - centre) / ratio: the scores are the same but for a constant of each row,
/// which softmax does not see. float32 [H, d]; undefined: none.
struct Equalization {
  at::Tensor centre, ratio;
};

/// (x - shift) factor; `shift` may be undefined.
HeadOperand scaled(const HeadOperand& operand, const at::Tensor& shift, const at::Tensor& factor) {
  HeadOperand result = operand;
  result.rows.x = (shift.defined() ? operand.rows.x - shift : operand.rows.x) * factor;
  result.gram = operand.gram / (factor.unsqueeze(1) * factor.unsqueeze(2));
  return result;
}

ScoreOperands equalize(const ScoreOperands& operands, const Equalization& by) {
  if (!by.centre.defined()) return operands;
  return {scaled(operands.left, {}, by.ratio),
          scaled(operands.right, by.centre, by.ratio.reciprocal())};
}

/// A scale for each token, which has nothing to be fitted: of `kComparedRows` rows of each half, as
/// error_on_others() takes them.
double error_per_token(const ScoreOperands& operands, int bits) {
  double error = 0.0;
  for (const HeadOperand* operand : {&operands.left, &operands.right}) {
    for (const WeightedRows& half : halves_of(operand->rows)) {
      const at::Tensor x = sample_rows(half.x, kComparedRows, half.weights);
      const OperandRows rows = operand_rows(x, bits);
      error += rows_error(*operand, x, rows.codes * rows.scale);
    }
  }
  return error;
}

/// Of the half that was not fitted, both halves together.
double error_on_others(const ScoreOperands& operands, int bits) {
  double error = 0.0;
  for (const HeadOperand* operand : {&operands.left, &operands.right}) {
    const std::vector<WeightedRows> halves = halves_of(operand->rows);
    if (halves.empty()) return 0.0;
    const std::vector<AffineGrid> grids = grids_of_halves(*operand, halves, bits, kComparedRows);
    for (std::size_t i = 0; i < 2; ++i)
      error += heads_error(*operand, halves[1 - i], grids[i], kComparedRows);
  }
  return error;
}

/// Keys without their mean; and channels such that those of q and k are equally wide, as between
/// layers (Nagel et al., arXiv 1906.04721, section 4.1).
std::vector<Equalization> equalizations(const ScoreOperands& operands) {
  constexpr double kMostRatio = 64.0;
  const auto mean = [](const at::Tensor& x, const at::Tensor& weights) {
    return weighted_mean(x.flatten(1), weights).view({x.size(1), x.size(2)});
  };
  const WeightedRows &q = operands.left.rows, &k = operands.right.rows;
  const at::Tensor centre = mean(k.x, k.weights);
  const at::Tensor of_q = mean(q.x.square(), q.weights).sqrt();
  const at::Tensor of_k = (mean(k.x.square(), k.weights) - centre.square()).clamp_min(0).sqrt();
  const at::Tensor ratio =
      (of_k / of_q).sqrt().nan_to_num(1.0, 1.0, 1.0).clamp(1 / kMostRatio, kMostRatio);
  return {{centre.to(at::kFloat), at::ones_like(centre, at::kFloat)},
          {centre.to(at::kFloat), ratio.to(at::kFloat)}};
}

/// In proportion to what grids of heads from the lowest to the highest value are expected to lose:
/// their squared ranges, times what errors of a head's channels count.
double expected_error(const ScoreOperands& operands) {
  double sum = 0.0;
  for (const HeadOperand* operand : {&operands.left, &operands.right}) {
    const WeightedRows& rows = operand->rows;
    const at::Tensor x = sample_rows(rows.x, kSearchedRows, rows.weights);
    const at::Tensor range =
        x.amax(at::IntArrayRef{0, 2}).clamp_min(0) - x.amin(at::IntArrayRef{0, 2}).clamp_max(0);
    const at::Tensor counts = operand->gram.diagonal(0, -2, -1).sum(-1);
    sum += (range.square() * counts).sum(at::kDouble).item<double>();
  }
  return sum;
}

/// The candidates that may leave so little of the error that they are worth it.
std::vector<Equalization> promising(std::vector<Equalization> candidates,
                                    const ScoreOperands& operands, double worth) {
  const double most = 2 * worth * expected_error(operands);
  std::erase_if(candidates, [&](const Equalization& candidate) {
    return expected_error(equalize(operands, candidate)) > most;
  });
  return candidates;
}

struct ScoreGrids {
  Equalization equalization;
  bool per_token = false;
};

/// What loses least on rows that were not fitted. A scale for each token, which costs time, must
/// take a fifth more of the error away.
ScoreGrids choose_grids(const ScoreOperands& operands, int bits, bool may_equalize, bool by_token) {
  constexpr double kWorthOfTokens = 0.8;
  const double worth_of_candidate = worth_of_equalization(bits);
  std::vector<Equalization> candidates;
  if (may_equalize) candidates = equalizations(operands);
  if (bits >= 8) candidates = promising(std::move(candidates), operands, worth_of_candidate);
  ScoreGrids best;
  if (candidates.empty() && !by_token) return best;
  double least = std::numeric_limits<double>::infinity();
  const auto look = [&](const auto& error_of, double worth, bool per_token) {
    const double plain = error_of(operands, bits);
    ScoreGrids found{{}, per_token};
    double lost = plain;
    for (const Equalization& candidate : candidates) {
      const double error = error_of(equalize(operands, candidate), bits);
      if (error < worth_of_candidate * plain && error < lost) {
        found.equalization = candidate;
        lost = error;
      }
    }
    if (lost < worth * least) std::tie(best, least) = std::tuple(found, lost);
  };
  look(error_on_others, 1.0, false);
  if (by_token) look(error_per_token, kWorthOfTokens, true);
  return best;
}

/// Scales are found at run time.
ScoresPlan plan_per_token(int bits, const Equalization& by, bool per_head) {
  const at::Tensor one = at::ones({1}), none = at::zeros({1});
  OperandQuantizer operand{
      .bits = bits, .multiplier = one, .scale = one, .zero_point = none, .per_token = true};
  ScoresPlan plan{operand, operand};
  if (!by.centre.defined()) return plan;
  const auto rows = [&](const at::Tensor& x) {
    return (per_head ? x.unsqueeze(1) : x).contiguous();
  };
  plan.right.zero_point = rows(-by.centre / by.ratio);
  if (!at::equal(by.ratio, at::ones_like(by.ratio))) {
    plan.left.multiplier = rows(by.ratio);
    plan.right.multiplier = rows(by.ratio.reciprocal());
  }
  return plan;
}

/// The grids of equalized operands as those of the operands themselves.
ScoresPlan plan_of(const AffineGrid& left, const AffineGrid& right, const Equalization& by,
                   bool per_head) {
  ScoresPlan plan{operand_from(left), operand_from(right)};
  if (!by.centre.defined()) return plan;
  // [H, 1, d], or [1, d] without heads.
  const auto rows = [&](const at::Tensor& x) { return per_head ? x.unsqueeze(1) : x; };
  const at::Tensor ratio = rows(by.ratio);
  plan.left.multiplier = plan.left.multiplier * ratio;
  plan.left.scale = plan.left.scale / ratio;
  const at::Tensor step = plan.right.scale * ratio;
  plan.right.zero_point =
      (plan.right.zero_point - at::round(rows(by.centre) / step)).transpose(-2, -1).contiguous();
  plan.right.scale = step.transpose(-2, -1).contiguous();
  plan.right.multiplier = plan.right.scale.reciprocal();
  return plan;
}

/// One grid per channel of V: the scale and the zero point leave the sum over tokens, so they cost
/// nothing (the product's columns are scaled anyway).
OperandQuantizer value_per_channel(const std::vector<at::Tensor>& value, bool heads, int bits,
                                   const at::Tensor& weights, bool head_room, bool centred) {
  const std::int64_t count = heads ? value[0].size(-3) : 1, width = value[0].size(-1);
  const WeightedRows rows{head_rows(value, heads).reshape({-1, count * width, 1}), weights};
  auto quantizer = operand_from(fit_heads({rows, {}, centred}, bits, head_room));
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
                      bool by_token, const at::Tensor& left_weights,
                      const at::Tensor& right_weights) {
  const bool per_head = recipe.per_head && site.heads && left[0].size(-3) == right[0].size(-3);
  std::vector<at::Tensor> keys;  // [.., S, d]
  for (const auto& batch : right) keys.push_back(batch.transpose(-2, -1));
  const at::Tensor none;
  const ScoreOperands operands{
      .left = {{head_rows(left, per_head), per_head ? left_weights : none},
               head_gram(keys, per_head, /*centred=*/site.softmax),
               /*centred=*/false},
      .right = {{head_rows(keys, per_head), per_head ? right_weights : none},
                head_gram(left, per_head, /*centred=*/false),
                /*centred=*/site.softmax}};
  const bool may_equalize = recipe.equalization && site.softmax && site.channels;
  by_token = by_token && site.softmax;
  const ScoreGrids grids = may_equalize || by_token
                               ? choose_grids(operands, bits, may_equalize, by_token)
                               : ScoreGrids{};
  const Equalization& chosen = grids.equalization;
  if (grids.per_token) return plan_per_token(bits, chosen, per_head);
  const auto plan_with = [&](const Equalization& by) {
    const ScoreOperands equalized = equalize(operands, by);
    return plan_of(fit_heads(equalized.left, bits, recipe.head_room),
                   fit_heads(equalized.right, bits, recipe.head_room), by, per_head);
  };
  ScoresPlan plan = plan_with(chosen);
  // A code is a product plus the zero point, in float32.
  const bool exact = plan.right.zero_point.abs().max().item<double>() <= kLargestZeroPoint;
  return exact ? plan : plan_with({});
}

bool may_go_by_token(const torch::jit::Node* scores, int bits, const AttentionRecipe& recipe) {
  switch (recipe.token_scales) {
    case TokenScales::kNever:
      return false;
    case TokenScales::kAlways:
      return true;
    case TokenScales::kAuto:
      break;
  }
  // Where few levels are left, each token's own are worth the operator.
  constexpr int kFewBits = 3;
  return bits <= kFewBits || !is_moved_linear(scores->input(0)) ||
         !is_moved_linear(scores->input(1));
}

bool makes_up_for_means(const WeightRecipe& recipe) {
  return recipe.compensation == Compensation::kStream && recipe.bias_correction;
}

AttendPlan fit_attend(const std::vector<at::Tensor>& value, const AttendSite& site, int bits,
                      const AttentionRecipe& recipe, bool mean_returns, const at::Tensor& weights) {
  AttendPlan plan;
  plan.bits = bits;
  const bool heads = site.heads, per_head = recipe.per_head && heads;
  plan.value =
      recipe.value_per_channel && site.columns
          ? value_per_channel(value, heads, bits, heads ? weights : at::Tensor(), recipe.head_room,
                              mean_returns)
          : operand_from(fit_heads(
                {{head_rows(value, per_head), per_head ? weights : at::Tensor()}, {}, mean_returns},
                bits, recipe.head_room));
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
  if (plan.left.per_token) {
    std::string text = "a scale per token";
    if (plan.right.zero_point.numel() > 1) text += ", keys centred";
    if (plan.left.multiplier.numel() > 1) text += ", channels equalized";
    return text;
  }
  const std::int64_t grids = plan.scale().numel();
  std::string text = grids > 1 ? "per head" : "per tensor";
  if (plan.right.zero_point.numel() > grids) text += ", keys centred";
  // With centred keys q has a scale for each channel too.
  if (plan.left.scale.numel() > grids &&
      !at::equal(plan.left.scale.amin(-1), plan.left.scale.amax(-1))) {
    text += ", channels equalized";
  }
  return text;
}

std::string describe(const AttendPlan& plan) {
  const at::Tensor& scale = plan.value.scale;
  if (scale.dim() > 0 && scale.size(-1) > 1) return "v per channel";
  return scale.numel() > 1 ? "v per head" : "v per tensor";
}

}  // namespace repquant
