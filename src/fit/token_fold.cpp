#include "fit/token_fold.h"

#include <ATen/ATen.h>

#include <cmath>

#include "fit/column_pairs.h"
#include "quantizer/adam.h"
#include "quantizer/kernels.h"
#include "quantizer/sample_rows.h"

namespace repquant {
namespace {

constexpr int kSteps = 50;
constexpr double kFirstStep = 0.1;  // falls to zero linearly
// A channel that hardly moves would get a multiplier that only amplifies rounding.
constexpr double kNarrowest = 0x1p-10;
constexpr std::int64_t kMostWeightRows = 512;
constexpr double kDamping = 0.01;  // of the covariance, as GPTQ has it

/// Sum over rows with their highest or lowest value in channel c of `of_rows`: [K].
at::Tensor by_channel(const at::Tensor& channels, const at::Tensor& of_rows, std::int64_t count) {
  return at::zeros({count}, at::kDouble).index_add_(0, channels, of_rows);
}

double sum_of(const at::Tensor& x) { return x.sum().item<double>(); }

/// The ends of each row: values float64 [n] and their channels.
struct RowEnds {
  at::Tensor lows, low_channels, highs, high_channels;
};

/// Of multiplier * rows + offset; rows [n, K], the others [K], all float32.
RowEnds ends_of_rows(const at::Tensor& rows, const at::Tensor& multiplier,
                     const at::Tensor& offset) {
  const at::Tensor x = rows.contiguous(), m = multiplier.contiguous(), a = offset.contiguous();
  const std::int64_t count = x.size(0), channels = x.size(1);
  RowEnds result{at::empty({count}, at::kDouble), at::empty({count}, at::kLong),
                 at::empty({count}, at::kDouble), at::empty({count}, at::kLong)};
  const float *row = x.const_data_ptr<float>(), *factor = m.const_data_ptr<float>(),
              *term = a.const_data_ptr<float>();
  auto *low = result.lows.mutable_data_ptr<double>(),
       *high = result.highs.mutable_data_ptr<double>();
  auto *low_at = result.low_channels.mutable_data_ptr<std::int64_t>(),
       *high_at = result.high_channels.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < count; ++i, row += channels) {
    const Ends ends = ends_of(row, factor, term, channels);
    low[i] = ends.low;
    high[i] = ends.high;
    low_at[i] = ends.low_at;
    high_at[i] = ends.high_at;
  }
  return result;
}

/// False where all rows are alike, as the first queries of a decoder: shifts by the channels'
/// centres would leave rounding errors alone.
bool any_moves(const at::Tensor& low, const at::Tensor& high) {
  const at::Tensor largest = at::maximum(high, -low).max();
  return ((high - low).max() > largest * kNarrowest).item<bool>();
}

}  // namespace

at::Tensor units_of(const at::Tensor& x, const at::Tensor& weight) {
  const auto differ = [](const at::Tensor& widths) {
    constexpr double kApart = 64.0;  // beyond what channels of one kind come to
    const at::Tensor some = widths.masked_select(widths > 0);
    return some.numel() > 1 && (some.max() > some.min() * kApart).item<bool>();
  };
  const at::Tensor columns = sample_rows(weight, kMostWeightRows).abs().amax(0).to(at::kDouble);
  at::Tensor ones = at::ones_like(columns);
  if (!differ(columns) || !differ(x.abs().amax(0))) return ones;
  return at::where(columns > 0, columns, ones);
}

// In float32: the damping is far above its rounding. Of too many channels nothing is explained by
// others.
at::Tensor unexplained_variance(const at::Tensor& x, const at::Tensor& units) {
  const at::Tensor rows = (x - x.mean(0)).mul_(units.to(at::kFloat));
  if (rows.size(1) > kPairColumns) {
    const at::Tensor variance = rows.square().mean(0, false, at::kDouble);
    return (variance + (kDamping * variance.mean().item<double>() + 1e-30)) / units.square();
  }
  at::Tensor covariance = at::matmul(rows.t(), rows).div_(static_cast<double>(x.size(0)));
  const double mean = covariance.diagonal().mean().item<double>();
  covariance.diagonal().add_(kDamping * mean + 1e-30);
  const at::Tensor factor = std::get<0>(at::linalg_cholesky_ex(covariance));
  return factor.diagonal().to(at::kDouble).square_().div_(units.square());
}

FoldTerms::FoldTerms(const TokenFoldProblem& problem) : x(problem.x), units(problem.units) {
  const at::Tensor given = problem.importance.to(at::kDouble);
  const at::Tensor squares = units.square();
  const double mean = (given / squares).mean().item<double>();
  const auto top = static_cast<double>((1 << problem.activation_bits) - 1);
  const auto top_weight = static_cast<double>((1 << problem.weight_bits) - 1) / 2;
  importance = at::maximum(given, squares * (mean * 1e-6 + 1e-300)) / (top * top);
  const double own = sum_of(problem.weight.to(at::kDouble).square());
  const double share = own > 0.0 ? sum_of(given) / own : 0.0;
  magnitudes = sample_rows(problem.weight, kMostWeightRows).abs();
  const double rows =
      static_cast<double>(problem.weight.size(0)) / static_cast<double>(magnitudes.size(0));
  rest = problem.unexplained * (share * rows / (top_weight * top_weight));
}

double weight_error(const FoldTerms& terms, const at::Tensor& multiplier) {
  const at::Tensor largest = at::div(terms.magnitudes, multiplier).amax(1).to(at::kDouble);
  return sum_of(largest.square()) * sum_of(terms.rest * multiplier.to(at::kDouble).square()) / 12;
}

TokenFold fit_token_fold(const FoldTerms& terms, bool with_shift) {
  const at::Tensor& x = terms.x;
  const std::int64_t channels = x.size(1);
  const at::Tensor low = x.amin(0).to(at::kDouble), high = x.amax(0).to(at::kDouble);
  with_shift = with_shift && any_moves(low, high);
  const at::Tensor centre = with_shift ? (low + high) / 2 : at::zeros_like(low);
  at::Tensor reach = with_shift ? (high - low) / 2 : at::maximum(high, -low);
  reach.mul_(terms.units);
  const double typical = reach.median().item<double>();
  const double widest = reach.max().item<double>();
  if (!(widest > 0.0) || !std::isfinite(widest)) {
    return {at::ones({channels}, at::kFloat), at::zeros({channels}, at::kFloat)};
  }
  reach = reach.clamp_min((typical > 0.0 ? typical : widest) * kNarrowest);

  at::Tensor log_multiplier = reach.log().mul_(-0.5).add_(terms.units.log());
  reach.div_(terms.units);
  at::Tensor shift = at::zeros_like(reach);  // of the centre, in reaches
  Adam of_multiplier(reach, {}), of_shift(reach, {});
  const at::Tensor no_offset = at::zeros({channels}, at::kFloat);
  const auto fold = [&] {
    const at::Tensor m = log_multiplier.exp();
    const at::Tensor a = -m * (centre + shift * reach);
    return TokenFold{m.to(at::kFloat), a.to(at::kFloat)};
  };
  for (int step = 1; step <= kSteps; ++step) {
    const TokenFold now = fold();
    const auto [bottoms, bottom_channels, tops, top_channels] =
        ends_of_rows(x, now.multiplier, now.offset);
    const at::Tensor range = tops - bottoms;
    const double squares = range.square().sum().item<double>();
    const RowEnds widths = ends_of_rows(terms.magnitudes, now.multiplier.reciprocal(), no_offset);
    const at::Tensor weight_squares = widths.highs.square();
    const at::Tensor square = (log_multiplier * 2).exp_();
    const at::Tensor noise = terms.importance / square, rest = terms.rest * square;
    const double of_input = squares / static_cast<double>(x.size(0)) * sum_of(noise);
    const double of_weight = sum_of(weight_squares) * sum_of(rest);
    const double all = of_input + of_weight;
    if (!(squares > 0.0) || !(all > 0.0) || !std::isfinite(all)) break;
    // Of log(error). Only the two channels that make a row's range move it: the derivative of
    // m (x - centre) by log m is itself, and -m reach by the shift.
    const at::Tensor share = range * (2 / squares * (of_input / all));
    at::Tensor gradient = by_channel(top_channels, share * tops, channels) -
                          by_channel(bottom_channels, share * bottoms, channels);
    gradient.sub_(noise, 2 / sum_of(noise) * (of_input / all));
    if (of_weight > 0.0) {
      gradient.sub_(by_channel(widths.high_channels, weight_squares, channels),
                    2 / sum_of(weight_squares) * (of_weight / all));
      gradient.add_(rest, 2 / sum_of(rest) * (of_weight / all));
    }
    const double rate = kFirstStep * (1 - static_cast<double>(step - 1) / kSteps);
    if (with_shift) {
      const at::Tensor moves = (by_channel(bottom_channels, share, channels) -
                                by_channel(top_channels, share, channels)) *
                               (log_multiplier.exp() * reach);
      shift.sub_(of_shift.step(moves), rate);
    }
    log_multiplier.sub_(of_multiplier.step(gradient), rate);
  }
  return fold();
}

}  // namespace repquant
