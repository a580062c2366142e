#include "fit/token_input.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "plan/simulate.h"

namespace repquant {
namespace {

constexpr std::int64_t kValuesAtOnce = std::int64_t{1} << 20;
constexpr std::size_t kFine = static_cast<std::size_t>(kMaxLevel) + 1;

/// Half of the fold: m = 1 / sqrt(half width), a = -middle m. Padding between norm and Linear
/// inserts true zeros, which must stay zeros: no shift there.
void fold_half(const at::Tensor& x, bool scale_only, InputQuantizer& quantizer) {
  const at::Tensor low = x.amin(0).to(at::kDouble), high = x.amax(0).to(at::kDouble);
  const at::Tensor reach = scale_only ? at::maximum(high, -low) : (high - low) / 2;
  const double typical = reach.median().item<double>();
  if (!(typical > 0.0) || !std::isfinite(typical)) return;
  // A channel that hardly moves would get a multiplier that only amplifies rounding.
  const at::Tensor m = reach.clamp_min(typical * 0x1p-10).rsqrt();
  quantizer.multiplier = m.to(at::kFloat);
  quantizer.offset = scale_only ? at::zeros_like(quantizer.multiplier)
                                : ((low + high) / -2 * quantizer.multiplier).to(at::kFloat);
}

at::Tensor fit_levels(const WeightedRows& rows, const LinearProblem& problem,
                      const InputQuantizer& quantizer) {
  InputQuantizer fine = quantizer;
  fine.bits = 8;
  const at::Tensor channels =
      problem.gram.diagonal().to(at::kDouble) / quantizer.multiplier.to(at::kDouble).square();
  at::Tensor counts = at::zeros({kMaxLevel + 1}, at::kDouble), sums = at::zeros_like(counts);
  // Part by part: bins and weights take several times the memory of the values.
  const std::int64_t step = std::max<std::int64_t>(1, kValuesAtOnce / rows.x.size(1));
  for (std::int64_t from = 0; from < rows.x.size(0); from += step) {
    const at::Tensor u = token_rows(rows.x.slice(0, from, from + step), fine);
    const TokenGrids grids = token_grids(u, fine);
    const at::Tensor values =
        ((u - grids.low) / grids.step).clamp_(0.0, static_cast<double>(kMaxLevel));
    at::Tensor weights = grids.step.to(at::kDouble).square() * channels;
    if (rows.weights.defined()) {
      weights = weights * rows.weights.slice(0, from, from + step).unsqueeze(1);
    }
    const at::Tensor bins = values.round().to(at::kLong).flatten();
    const at::Tensor flat = weights.flatten();
    counts.index_add_(0, bins, flat);
    sums.index_add_(0, bins, flat * values.flatten());
  }
  return best_levels(counts, sums, quantizer.bits);
}

}  // namespace

at::Tensor best_levels(const at::Tensor& counts, const at::Tensor& sums, int bits) {
  // Prefix sums; the squares of the values do not depend on the levels.
  std::array<double, kFine + 1> total{}, moment{};
  const at::Tensor n = counts.contiguous(), s = sums.contiguous();
  for (std::size_t i = 0; i < kFine; ++i) {
    total[i + 1] = total[i] + n.const_data_ptr<double>()[i];
    moment[i + 1] = moment[i] + s.const_data_ptr<double>()[i];
  }
  const auto level_of = [&](std::size_t from, std::size_t to) {
    const double weight = total[to] - total[from];
    const double mean = weight > 0.0 ? (moment[to] - moment[from]) / weight
                                     : static_cast<double>(from + to - 1) / 2;
    return std::nearbyint(mean);
  };
  const auto cost = [&](std::size_t from, std::size_t to) {
    const double level = level_of(from, to);
    return level * (level * (total[to] - total[from]) - 2 * (moment[to] - moment[from]));
  };
  // least[k][i]: of the values below i with k + 1 levels; cut[k][i]: where the last level begins.
  const std::size_t levels = std::size_t{1} << bits;
  std::vector<std::array<double, kFine + 1>> least(levels);
  std::vector<std::array<std::size_t, kFine + 1>> cut(levels);
  for (std::size_t i = 1; i <= kFine; ++i) least[0][i] = cost(0, i);
  for (std::size_t k = 1; k < levels; ++k) {
    for (std::size_t i = k + 1; i <= kFine; ++i) {
      least[k][i] = std::numeric_limits<double>::infinity();
      for (std::size_t from = k; from < i; ++from) {
        const double error = least[k - 1][from] + cost(from, i);
        if (error < least[k][i]) {
          least[k][i] = error;
          cut[k][i] = from;
        }
      }
    }
  }
  at::Tensor result = at::empty({static_cast<std::int64_t>(levels)}, at::kByte);
  std::size_t end = kFine;
  for (std::size_t k = levels; k-- > 0;) {
    const std::size_t from = k > 0 ? cut[k][end] : 0;
    result.mutable_data_ptr<std::uint8_t>()[k] = static_cast<std::uint8_t>(level_of(from, end));
    end = from;
  }
  return result;
}

InputQuantizer fit_token_input(const WeightedRows& rows, const LinearProblem& problem) {
  InputQuantizer quantizer = per_token_quantizer(problem.activation_bits);
  const bool folds =
      problem.site->norm != nullptr && !problem.one_grid && problem.rounded == nullptr;
  if (folds) fold_half(rows.x, problem.site->scale_only_fold, quantizer);
  if (quantizer.bits <= kMostLevelBits) quantizer.levels = fit_levels(rows, problem, quantizer);
  return quantizer;
}

}  // namespace repquant
