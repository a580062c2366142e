#include "plan/simulate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/overloaded.h"

namespace repquant {
namespace {

at::Tensor affine_codes(const at::Tensor& x, const at::Tensor& multiplier, const at::Tensor& offset,
                        double max_code) {
  return at::round(x.to(at::kFloat) * multiplier + offset).clamp_(0.0, max_code);
}

/// s (codes - z) (w_scale * w_codes)^T, without the scales of rows.
at::Tensor product_of(const LinearPlan& plan, const at::Tensor& codes) {
  const at::Tensor centred =
      product_codes(codes, plan.input) - static_cast<double>(plan.input.zero_point);
  const at::Tensor product = at::matmul(centred, plan.weight.codes.to(at::kFloat).t());
  return product * (plan.weight.scale * plan.input.scale);
}

/// Levels where there are any.
at::Tensor token_product_codes(const at::Tensor& rows, const TokenGrids& grids,
                               const InputQuantizer& quantizer) {
  const auto top = static_cast<double>(quantizer.max_product_code());
  at::Tensor codes =
      at::sub(rows, grids.low).mul_(grids.step.reciprocal()).round_().clamp_(0.0, top);
  if (!quantizer.levels.defined()) return codes;
  // A row that is not finite has a grid that is not: any level does.
  const at::Tensor fine = codes.nan_to_num_(0.0).to(at::kInt).flatten();
  return at::index_select(level_table(quantizer.levels), 0, fine).to(at::kFloat).view_as(rows);
}

}  // namespace

at::Tensor weight_sums(const QuantizedWeight& weight) {
  return (weight.codes.sum(1).to(at::kDouble) * weight.scale).to(at::kFloat);
}

InputQuantizer per_token_quantizer(int bits) {
  InputQuantizer quantizer;
  quantizer.bits = bits;
  quantizer.per_token = true;
  quantizer.multiplier = at::ones({1}, at::kFloat);
  quantizer.offset = at::zeros({1}, at::kFloat);
  return quantizer;
}

at::Tensor split_groups(const at::Tensor& rows, const InputQuantizer& quantizer) {
  const std::int64_t size = quantizer.group_size;
  if (size == 0) return rows;
  const std::int64_t columns = rows.size(-1), rest = (size - columns % size) % size;
  auto sizes = rows.sizes().vec();
  sizes.back() = rest;
  const at::Tensor whole =
      rest == 0 ? rows : at::cat({rows, rows.narrow(-1, columns - 1, 1).expand(sizes)}, -1);
  sizes.back() = (columns + rest) / size;
  sizes.push_back(size);
  return whole.reshape(sizes);
}

at::Tensor join_groups(const at::Tensor& groups, const InputQuantizer& quantizer,
                       std::int64_t columns) {
  if (quantizer.group_size == 0) return groups;
  return groups.flatten(-2).narrow(-1, 0, columns);
}

at::Tensor token_rows(const at::Tensor& x, const InputQuantizer& quantizer) {
  const at::Tensor rows = x.to(at::kFloat);
  return quantizer.per_channel() ? at::mul(rows, quantizer.multiplier).add_(quantizer.offset)
                                 : rows;
}

TokenGrids token_grids(const at::Tensor& rows, const InputQuantizer& quantizer) {
  TokenGrids grids;
  grids.low = rows.amin(-1, /*keepdim=*/true);
  grids.step = (rows.amax(-1, /*keepdim=*/true) - grids.low)
                   .div_(static_cast<double>(quantizer.max_product_code()))
                   .clamp_min_(std::numeric_limits<float>::min());
  return grids;
}

at::Tensor level_table(const at::Tensor& levels) {
  const at::Tensor values = levels.to(at::kFloat);
  const std::int64_t count = values.numel();
  const at::Tensor middles = (values.slice(0, 0, count - 1) + values.slice(0, 1)) / 2;
  const at::Tensor nearest = at::bucketize(at::arange(kMaxLevel + 1, at::kFloat), middles);
  return levels.index_select(0, nearest);
}

at::Tensor encode(const at::Tensor& x, const InputQuantizer& quantizer) {
  const auto max_code = static_cast<double>(quantizer.max_code());
  if (quantizer.per_token) {
    const at::Tensor rows = split_groups(token_rows(x, quantizer), quantizer);
    at::Tensor codes = join_groups(
        token_product_codes(rows, token_grids(rows, quantizer), quantizer), quantizer, x.size(-1));
    if (!quantizer.levels.defined()) return codes;
    return at::bucketize(codes, quantizer.levels.to(at::kFloat)).to(at::kFloat);
  }
  if (quantizer.form == CodeForm::kUniform) {
    return affine_codes(x, quantizer.multiplier, quantizer.offset, max_code);
  }
  // q = round(sqrt(u)) is the nearest code in value for integer u: the middle between q^2 and
  // (q + 1)^2 is q^2 + q + 1/2, never an integer.
  const at::Tensor u = affine_codes(x, quantizer.multiplier, quantizer.offset, max_code * max_code);
  return u.sqrt_().round_();
}

bool same_codes(const InputQuantizer& a, const InputQuantizer& b) {
  return a.bits == b.bits && a.form == b.form && a.per_token == b.per_token &&
         a.group_size == b.group_size && at::equal(a.multiplier, b.multiplier) &&
         at::equal(a.offset, b.offset) && a.levels.defined() == b.levels.defined() &&
         (!a.levels.defined() || at::equal(a.levels, b.levels));
}

at::Tensor product_codes(const at::Tensor& codes, const InputQuantizer& quantizer) {
  if (quantizer.levels.defined()) {
    const at::Tensor index = codes.to(at::kInt).flatten();
    return at::index_select(quantizer.levels, 0, index).to(at::kFloat).view_as(codes);
  }
  return quantizer.form == CodeForm::kQuadratic ? codes * codes : codes;
}

at::Tensor product_input(const at::Tensor& x, const InputQuantizer& quantizer) {
  if (quantizer.per_token) {
    const at::Tensor rows = split_groups(token_rows(x, quantizer), quantizer);
    const TokenGrids grids = token_grids(rows, quantizer);
    const at::Tensor values =
        token_product_codes(rows, grids, quantizer).mul_(grids.step).add_(grids.low);
    return join_groups(values, quantizer, x.size(-1));
  }
  at::Tensor codes = product_codes(encode(x, quantizer), quantizer);
  return codes.sub_(static_cast<double>(quantizer.zero_point));
}

at::Tensor fake_quantize(const at::Tensor& x, const InputQuantizer& quantizer) {
  if (quantizer.per_token) {
    const at::Tensor rows = product_input(x, quantizer);
    return quantizer.per_channel() ? (rows - quantizer.offset) / quantizer.multiplier : rows;
  }
  return (product_codes(encode(x, quantizer), quantizer) - quantizer.offset) / quantizer.multiplier;
}

at::Tensor encode(const at::Tensor& x, const OperandQuantizer& quantizer) {
  return affine_codes(x, quantizer.multiplier, quantizer.zero_point,
                      static_cast<double>(quantizer.max_code()));
}

at::Tensor fake_quantize(const at::Tensor& x, const OperandQuantizer& quantizer) {
  return (encode(x, quantizer) - quantizer.zero_point) * quantizer.scale;
}

at::Tensor encode_side(const at::Tensor& x, const SideColumns& side) {
  const at::Tensor channels = at::tensor(side.channels, at::kLong);
  const auto max_code = static_cast<double>((std::int64_t{1} << side.bits) - 1);
  const at::Tensor columns = x.index_select(-1, channels);
  return affine_codes(columns, side.scale.reciprocal(), side.zero_point, max_code);
}

at::Tensor linear_from_codes(const LinearPlan& plan, const at::Tensor& codes,
                             const at::Tensor& side_codes) {
  at::Tensor output = product_of(plan, codes) + plan.bias;
  if (!plan.side.channels.empty()) {
    const at::Tensor columns = (side_codes - plan.side.zero_point) * plan.side.scale;
    output = output + at::matmul(columns, plan.side.weight.dequantize().t());
  }
  return output;
}

namespace {

at::Tensor simulate_rows(const LinearPlan& plan, const at::Tensor& x) {
  if (!plan.quantized_input) {
    return at::matmul(x, plan.weight.dequantize().t()) + plan.bias;
  }
  if (plan.input.group_size > 0) {
    const at::Tensor values = product_input(x, plan.input);
    return at::matmul(values, plan.weight.dequantize().t()) + plan.bias;
  }
  if (plan.input.per_token) {
    const at::Tensor rows = token_rows(x, plan.input);
    const TokenGrids grids = token_grids(rows, plan.input);
    const at::Tensor codes = token_product_codes(rows, grids, plan.input);
    const at::Tensor product =
        at::matmul(codes, plan.weight.codes.to(at::kFloat).t()) * plan.weight.scale;
    return product * grids.step + grids.low * weight_sums(plan.weight) + plan.bias;
  }
  at::Tensor side_codes;
  if (!plan.side.channels.empty()) side_codes = encode_side(x, plan.side);
  return linear_from_codes(plan, encode(x, plan.input), side_codes);
}

// The windows of a convolution are many copies of its input: what is made of them in between is
// made for so many elements at a time.
constexpr std::int64_t kElementsAtOnce = std::int64_t{1} << 24;

}  // namespace

at::Tensor simulate_linear(const LinearPlan& plan, const at::Tensor& x) {
  const std::int64_t columns = x.size(-1);
  if (x.numel() <= kElementsAtOnce || x.dim() < 2) return simulate_rows(plan, x);
  const at::Tensor rows = x.reshape({-1, columns});
  const std::int64_t step = std::max<std::int64_t>(1, kElementsAtOnce / columns);
  auto sizes = x.sizes().vec();
  sizes.back() = plan.bias.size(0);
  at::Tensor output = at::empty({rows.size(0), sizes.back()}, at::kFloat);
  for (std::int64_t from = 0; from < rows.size(0); from += step) {
    const std::int64_t to = std::min(rows.size(0), from + step);
    output.slice(0, from, to).copy_(simulate_rows(plan, rows.slice(0, from, to)));
  }
  return output.view(sizes);
}

at::Tensor GroupedConvolutionPlan::output_scale() const {
  if (!quantized_input) return weight.scale;
  const std::int64_t of_group = weight.scale.size(0) / shape.groups;
  const at::Tensor scales = input.scale.flatten();
  const at::Tensor of_groups = scales.slice(0, 0, scales.size(0), scales.size(0) / shape.groups);
  return weight.scale * of_groups.repeat_interleave(of_group);
}

at::Tensor simulate_convolution(const GroupedConvolutionPlan& plan, const at::Tensor& x) {
  const at::Tensor centred =
      plan.quantized_input ? encode(x, plan.input) - plan.input.zero_point : x;
  const at::Tensor product = convolve(centred, plan.weight.codes.to(at::kFloat), {}, plan.shape);
  std::vector<std::int64_t> channels(static_cast<std::size_t>(x.dim()) - 1, 1);
  channels[0] = plan.bias.size(0);
  return product * plan.output_scale().view(channels) + plan.bias.view(channels);
}

at::Tensor simulate_embedding(const EmbeddingPlan& plan, const at::Tensor& indices) {
  const at::Tensor scale = at::embedding(plan.table.scale.unsqueeze(1), indices);
  return at::embedding(plan.table.codes, indices).to(at::kFloat) * scale;
}

at::Tensor ScoresPlan::scale() const {
  if (left.per_token) return at::ones({1}, at::kDouble);
  const at::Tensor a = left.scale.to(at::kDouble), b = right.scale.to(at::kDouble);
  if (b.dim() < 2 || b.size(-2) == 1) return a * b;
  return (a * b.transpose(-2, -1)).mean(-1, /*keepdim=*/true);  // equal but for rounding
}

std::int64_t operand_top(int bits) { return bits == 8 ? 127 : (std::int64_t{1} << bits) - 1; }

OperandRows operand_rows(const at::Tensor& rows, int bits) {
  const auto top = static_cast<double>(operand_top(bits));
  OperandRows result;
  result.scale =
      rows.abs().amax(-1, /*keepdim=*/true).div_(top).clamp_min_(std::numeric_limits<float>::min());
  at::Tensor codes = at::mul(rows, result.scale.reciprocal());
  if (bits == 8) {
    codes.round_();
  } else {
    codes.sub_(1.0).mul_(0.5).round_().mul_(2.0).add_(1.0);
  }
  result.codes = codes.clamp_(-top, top);
  return result;
}

OperandRows operand_rows(const at::Tensor& x, const OperandQuantizer& quantizer) {
  return operand_rows(x.to(at::kFloat) * quantizer.multiplier + quantizer.zero_point,
                      quantizer.bits);
}

ScoresOperands simulate_operands(const ScoresPlan& plan, const at::Tensor& left,
                                 const at::Tensor& right) {
  if (!plan.left.per_token) {
    return {fake_quantize(left, plan.left), fake_quantize(right, plan.right)};
  }
  const auto by_token = [](const at::Tensor& x, const OperandQuantizer& quantizer) {
    const OperandRows rows = operand_rows(x, quantizer);
    return (rows.codes * rows.scale - quantizer.zero_point) / quantizer.multiplier;
  };
  return {by_token(left, plan.left),
          by_token(right.transpose(-2, -1), plan.right).transpose(-2, -1)};
}

at::Tensor simulate_scores(const ScoresPlan& plan, const at::Tensor& left,
                           const at::Tensor& right) {
  if (plan.left.per_token) {
    const OperandRows queries = operand_rows(left, plan.left),
                      keys = operand_rows(right.transpose(-2, -1), plan.right);
    return at::matmul(queries.codes, keys.codes.transpose(-2, -1))
        .mul_(queries.scale)
        .mul_(keys.scale.transpose(-2, -1));
  }
  const at::Tensor product = at::matmul(encode(left, plan.left) - plan.left.zero_point,
                                        encode(right, plan.right) - plan.right.zero_point);
  return product * plan.scale().to(at::kFloat);
}

at::Tensor comparable_scores(const ScoresPlan& plan, const at::Tensor& scores) {
  const bool centred = plan.left.per_token && plan.right.zero_point.numel() > 1;
  return centred ? scores - scores.mean(-1, /*keepdim=*/true) : scores;
}

at::Tensor simulate_softmax_weights(const AttendPlan& plan, const at::Tensor& scores) {
  const auto max_code = static_cast<double>((std::int64_t{1} << plan.bits) - 1);
  if (plan.row_maximum) {
    const at::Tensor maximum = scores.amax(-1, /*keepdim=*/true);
    const at::Tensor masked_row = maximum == -std::numeric_limits<double>::infinity();
    const at::Tensor relative = scores - maximum.masked_fill(masked_row, 0.0);
    const at::Tensor weights =
        plan.uniform ? at::round(at::exp(relative) * max_code) / max_code
                     : log_weights(log_codes_from_scores(relative, plan.grid), plan.grid);
    return weights.masked_fill(masked_row, 0.0);
  }
  // The paper's form: codes of the probabilities themselves, one scale for the tensor.
  const at::Tensor masked_row =
      scores.amax(-1, /*keepdim=*/true) == -std::numeric_limits<double>::infinity();
  const at::Tensor log_ratio =
      at::log_softmax(scores.masked_fill(masked_row, 0.0), -1) - std::log(plan.softmax_scale);
  const at::Tensor weights =
      plan.uniform ? at::round(at::exp(log_ratio) * max_code).clamp(0.0, max_code) / max_code
                   : log_weights(log_codes_from_scores(log_ratio, plan.grid), plan.grid);
  return (weights * plan.softmax_scale).masked_fill(masked_row, 0.0);
}

at::Tensor simulate_attend(const AttendPlan& plan, const at::Tensor& scores,
                           const at::Tensor& value) {
  const at::Tensor weights = simulate_softmax_weights(plan, scores);
  const at::Tensor centred = encode(value, plan.value) - plan.value.zero_point;
  at::Tensor product = at::matmul(weights, centred);
  if (plan.row_maximum) {
    // The row maximum itself always has weight 1, so the sum is >= 1 except in masked rows, whose
    // product is 0.
    product = product / weights.sum(-1, /*keepdim=*/true).clamp_min(1.0);
  }
  return product * plan.value.scale;
}

at::Tensor simulate(const SitePlan& plan, const std::vector<at::Tensor>& operands) {
  return std::visit(
      Overloaded{
          [&](const LinearPlan& linear) { return simulate_linear(linear, operands[0]); },
          [&](const ScoresPlan& scores) {
            return simulate_scores(scores, operands[0], operands[1]);
          },
          [&](const AttendPlan& attend) {
            return simulate_attend(attend, operands[0], operands[1]);
          },
          [&](const EmbeddingPlan& embedding) {
            return simulate_embedding(embedding, operands[0]);
          },
          [&](const GroupedConvolutionPlan& convolution) {
            return simulate_convolution(convolution, operands[0]);
          },
      },
      plan.plan);
}

}  // namespace repquant
