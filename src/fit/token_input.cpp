#include "fit/token_input.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "fit/column_pairs.h"
#include "fit/token_fold.h"
#include "plan/simulate.h"
#include "quantizer/levels.h"
#include "quantizer/sample_rows.h"
#include "tensor/random_projection.h"
#include "tensor/simd.h"

namespace repquant {
namespace {

constexpr std::int64_t kValuesAtOnce = std::int64_t{1} << 20;
// Rows that folds are fitted and judged on: more change no figure (docs/decisions-accuracy.md).
constexpr std::int64_t kRowsOfFold = 512;
// A fold that no norm carries must take away a fifth of the site's error.
constexpr double kWorthAPass = 0.8;

/// Sums over values by the nearest whole number.
struct LevelSums {
  at::Tensor counts = at::zeros({kMaxLevel + 1}, at::kDouble);
  at::Tensor sums = at::zeros({kMaxLevel + 1}, at::kDouble);

  /// values [n, K] in 0..kMaxLevel, float32; each counts grids [n, G], of its group of
  /// `group_size` columns, times channels [K], float64.
  void add(const at::Tensor& values, const at::Tensor& grids, std::int64_t group_size,
           const at::Tensor& channels) {
    const float* value = values.const_data_ptr<float>();
    const double *grid = grids.const_data_ptr<double>(),
                 *channel = channels.const_data_ptr<double>();
    double *count = counts.mutable_data_ptr<double>(), *sum = sums.mutable_data_ptr<double>();
    for (std::int64_t i = 0; i < values.size(0); ++i, grid += grids.size(1)) {
      for (std::int64_t c = 0; c < values.size(1); ++c, ++value) {
        const double weight = grid[c / group_size] * channel[c];
        const float level = *value > 0 ? *value : 0;  // of NaN too
        const auto bin = static_cast<std::size_t>(round_even(level));
        count[bin] += weight;
        sum[bin] += weight * static_cast<double>(level);
      }
    }
  }
};

/// A problem with what all folds of it go by, computed once.
struct FoldProblem {
  const LinearProblem& linear;
  int group_size = 0;             // see InputQuantizer
  at::Tensor importance;          // float32 [K], see TokenFoldProblem
  at::Tensor units, unexplained;  // float64 [K]; undefined where no fold is fitted
};

at::Tensor fit_levels(const WeightedRows& rows, const at::Tensor& importance,
                      const InputQuantizer& quantizer) {
  InputQuantizer fine = quantizer;
  fine.bits = 8;
  const at::Tensor channels =
      importance.to(at::kDouble) / quantizer.multiplier.to(at::kDouble).square();
  LevelSums sums;
  // Part by part: they take several times the memory of the values.
  const std::int64_t columns = rows.x.size(1);
  const std::int64_t step = std::max<std::int64_t>(1, kValuesAtOnce / columns);
  for (std::int64_t from = 0; from < rows.x.size(0); from += step) {
    const at::Tensor u = split_groups(token_rows(rows.x.slice(0, from, from + step), fine), fine);
    const TokenGrids grids = token_grids(u, fine);
    const at::Tensor values =
        ((u - grids.low) / grids.step).clamp_(0.0, static_cast<double>(kMaxLevel));
    at::Tensor weights = grids.step.to(at::kDouble).square_().flatten(1);
    if (rows.weights.defined()) {
      weights.mul_(rows.weights.slice(0, from, from + step).unsqueeze(1));
    }
    sums.add(join_groups(values, fine, columns).contiguous(), weights.contiguous(),
             fine.group_size > 0 ? fine.group_size : columns, channels.contiguous());
  }
  return best_levels(sums.counts, sums.sums, quantizer.bits);
}

/// What a fold may be. At a norm it costs nothing; elsewhere it is a pass over the input.
enum class FoldForm { kNone, kScale, kScaleAndShift };

at::Tensor some_rows(const WeightedRows& rows) {
  return sample_rows(rows.x, kRowsOfFold, rows.weights);
}

FoldTerms terms_of(const WeightedRows& rows, const FoldProblem& problem) {
  return FoldTerms({.x = some_rows(rows),
                    .units = problem.units,
                    .unexplained = problem.unexplained,
                    .importance = problem.importance,
                    .weight = problem.linear.site->weight,
                    .activation_bits = problem.linear.activation_bits,
                    .weight_bits = problem.linear.weight_bits});
}

InputQuantizer quantizer_with(const std::optional<TokenFold>& fold, const WeightedRows& rows,
                              const FoldProblem& problem) {
  InputQuantizer quantizer = per_token_quantizer(problem.linear.activation_bits);
  quantizer.group_size = problem.group_size;
  if (fold) {
    quantizer.multiplier = fold->multiplier;
    quantizer.offset = fold->offset;
  }
  if (quantizer.bits <= kMostLevelBits) {
    quantizer.levels = fit_levels(rows, problem.importance, quantizer);
  }
  return quantizer;
}

/// e G e^T summed over the rows of an error [n, K], G what the readers make of it.
class ReadersError {
 public:
  explicit ReadersError(const LinearProblem& problem) {
    const std::int64_t columns = problem.site->weight.size(1);
    if (projections_suffice(problem.activation_bits, columns) || columns > kPairColumns) {
      sketch_ = gram_sketch_of(problem.readers);
    } else {
      gram_ = gram_of(problem.readers);
    }
  }
  double of(const at::Tensor& error) const {
    const at::Tensor squares =
        sketch_.defined() ? at::mm(error, sketch_).square_() : at::mm(error, gram_).mul_(error);
    return squares.sum(at::kDouble).item<double>();
  }

 private:
  at::Tensor gram_, sketch_;  // one of them
};

/// Mean over the rows of `terms` of what the grids lose of them but for its mean, and what the
/// weight is expected to lose.
double error_of(const FoldTerms& terms, const ReadersError& readers,
                const InputQuantizer& quantizer) {
  at::Tensor error = fake_quantize(terms.x, quantizer).sub_(terms.x);
  error.sub_(error.mean(0));
  const double of_input = readers.of(error);
  return of_input / static_cast<double>(terms.x.size(0)) +
         weight_error(terms, quantizer.multiplier);
}

/// Fitted on the first half of the rows, judged on the second.
FoldForm best_form(const WeightedRows& rows, const FoldProblem& problem) {
  const LinearSite& site = *problem.linear.site;
  const auto halves = halves_of(rows);
  const bool free = site.norm != nullptr;
  std::vector<FoldForm> forms{FoldForm::kScale};
  // Padding between norm and Linear inserts true zeros, which must stay zeros.
  const bool centred = free || site.source == InputSource::kNorm;
  if (centred && !site.scale_only_fold) forms.push_back(FoldForm::kScaleAndShift);
  const FoldTerms seen = terms_of(halves[0], problem);
  const FoldTerms other = terms_of(halves[1], problem);
  const ReadersError readers(problem.linear);
  const auto judged = [&](const std::optional<TokenFold>& fold) {
    return error_of(other, readers, quantizer_with(fold, halves[0], problem));
  };
  FoldForm best = FoldForm::kNone;
  double least = judged({}) * (free ? 1.0 : kWorthAPass);
  for (const FoldForm form : forms) {
    const double error = judged(fit_token_fold(seen, form == FoldForm::kScaleAndShift));
    if (error < least) std::tie(best, least) = std::tuple(form, error);
  }
  return best;
}

}  // namespace

InputQuantizer fit_token_input(const WeightedRows& rows, const LinearProblem& linear,
                               int group_size) {
  FoldProblem problem{.linear = linear,
                      .group_size = group_size < rows.x.size(1) ? group_size : 0,
                      .importance = gram_diagonal_of(linear.readers),
                      .units = {},
                      .unexplained = {}};
  if (linear.one_grid || linear.rounded != nullptr || rows.x.size(0) < 2) {
    return quantizer_with({}, rows, problem);
  }
  const at::Tensor some = some_rows(rows);
  problem.units = units_of(some, linear.site->weight);
  problem.unexplained = unexplained_variance(some, problem.units);
  std::optional<TokenFold> fold;
  if (const FoldForm form = best_form(rows, problem); form != FoldForm::kNone) {
    fold = fit_token_fold(terms_of(rows, problem), form == FoldForm::kScaleAndShift);
  }
  return quantizer_with(fold, rows, problem);
}

}  // namespace repquant
