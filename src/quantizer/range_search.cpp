#include "quantizer/range_search.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <map>
#include <utility>

#include "quantizer/kernels.h"
#include "quantizer/output_metric.h"
#include "quantizer/sample_rows.h"
#include "tensor/check.h"

namespace repquant {
namespace {

// Both ends of a range in integer steps of 2^(-1/32) below the extremes; 0 is the extreme itself.
using Steps = std::array<int, 2>;
constexpr int kCoarseStep = 16;  // half an octave
constexpr int kCoarseCount = 10;
constexpr int kFinestStep = 1;  // 2 %
constexpr std::ptrdiff_t kMostCandidates = 80;

double factor_of(int steps) { return std::exp2(-steps / 32.0); }

// Minimises score over the two step counts: along both axes and the diagonal in coarse steps, then
// a compass search with halved steps. Scores every point once and at most kMostCandidates points.
class TwoSidedSearch {
 public:
  explicit TwoSidedSearch(std::function<double(Steps)> score) : score_(std::move(score)) {}

  Steps run(std::array<int, 2> least) {
    least_ = least;
    consider({0, 0});
    for (const Steps direction : {Steps{1, 1}, Steps{0, 1}}) line({0, 0}, direction);
    line({0, best_[1]}, {1, 0});
    for (int step = kCoarseStep / 2; step >= kFinestStep; step /= 2) {
      while (move(step)) {
      }
    }
    return best_;
  }

 private:
  void line(Steps from, Steps direction) {
    for (int i = 1; i < kCoarseCount; ++i) {
      consider(
          {from[0] + direction[0] * i * kCoarseStep, from[1] + direction[1] * i * kCoarseStep});
    }
  }

  bool move(int step) {
    const Steps from = best_;
    for (const Steps direction : {Steps{0, 1}, Steps{0, -1}, Steps{1, 0}, Steps{-1, 0}}) {
      consider({from[0] + direction[0] * step, from[1] + direction[1] * step});
    }
    return best_ != from;
  }

  void consider(Steps steps) {
    for (std::size_t side = 0; side < 2; ++side) steps[side] = std::max(steps[side], least_[side]);
    if (std::ssize(scored_) >= kMostCandidates || scored_.contains(steps)) return;
    const double score = score_(steps);
    scored_[steps] = score;
    if (score < best_score_) {
      best_score_ = score;
      best_ = steps;
    }
  }

  std::function<double(Steps)> score_;
  std::array<int, 2> least_ = {0, 0};
  std::map<Steps, double> scored_;
  Steps best_ = {0, 0};
  double best_score_ = std::numeric_limits<double>::infinity();
};

// The extremes of x, widened to contain 0.
Range extremes(const at::Tensor& x) {
  require(x.numel() > 0, "range search", "a sample that is not empty");
  require_finite(x, "range search", "the sample");
  const auto [low, high] = at::aminmax(x);
  return {std::min(0.0, low.item<double>()), std::max(0.0, high.item<double>())};
}

// Rows for the error: fewer where a row is expensive (about a gigaflop per candidate at most).
std::int64_t affordable_rows(const OutputMetric& metric, std::int64_t max_rows) {
  constexpr std::int64_t kBudget = 250'000'000;
  constexpr std::int64_t kLeast = 128;
  return std::clamp(kBudget / metric.cost(), std::min(kLeast, max_rows), max_rows);
}

// Scores candidate quantizers on one sample.
class Scorer {
 public:
  /// Scores all of `rows` [n, K] float32.
  Scorer(const OutputMetric& metric, const at::Tensor& rows) : metric_(metric), rows_(rows) {
    if (!metric_.plain()) error_ = at::empty_like(rows_);
  }

  template <typename... Grid>
  double score(const Grid&... grid) {
    const float* x = rows_.const_data_ptr<float>();
    if (!metric_.plain()) {
      quantization_error(grid..., x, error_.data_ptr<float>(), rows_.numel());
      return metric_.of(error_);
    }
    // Rows may be single values: a sum in float32 is of some hundred.
    constexpr std::int64_t kValues = 256;
    double sum = 0;
    for (std::int64_t i = 0; i < rows_.numel(); i += kValues) {
      sum += squared_error(grid..., x + i, std::min(kValues, rows_.numel() - i));
    }
    return sum;
  }

 private:
  OutputMetric metric_;
  at::Tensor rows_;
  at::Tensor error_;
};

/// On a sample of x [n, K].
Scorer scorer_of(const at::Tensor& x, const at::Tensor& gram, const SearchOptions& options) {
  const OutputMetric metric(gram, x.size(1), options.centred_error);
  return {metric, sample_rows(x, affordable_rows(metric, options.max_rows), options.row_weights)};
}

/// `full`: the extremes of all rows.
Range search_range(const Range& full, Scorer& scorer, int bits) {
  const auto range_of = [&](Steps steps) {
    return Range{full.lower * factor_of(steps[0]), full.upper * factor_of(steps[1])};
  };
  TwoSidedSearch search([&](Steps steps) {
    const Range range = range_of(steps);
    return scorer.score(line_grid(range.lower, range.upper, bits, true));
  });
  return range_of(search.run({0, 0}));
}

at::Tensor one(double value) { return at::full({1}, value, at::kFloat); }

}  // namespace

AffineGrid search_per_tensor(const at::Tensor& x, const at::Tensor& gram, int bits,
                             const SearchOptions& options) {
  require(x.dim() == 2, "search_per_tensor", "a sample [n, K]");
  Range range = extremes(x);
  if (range.upper > range.lower) {
    Scorer scorer = scorer_of(x, gram, options);
    range = search_range(range, scorer, bits);
  }
  return affine_grid(one(range.lower), one(range.upper), bits);
}

AffineGrid search_per_head(const at::Tensor& x, const at::Tensor& gram, int bits,
                           const SearchOptions& options) {
  require(x.dim() == 3, "search_per_head", "a sample [n, H, d]");
  require(!gram.defined() || (gram.dim() == 3 && gram.size(0) == x.size(1)), "search_per_head",
          "a Gram matrix [H, d, d]");
  require(x.numel() > 0, "search_per_head", "a sample that is not empty");
  require_finite(x, "search_per_head", "the sample");
  const at::Tensor lower = x.amin({0, 2}).to(at::kDouble).clamp_max_(0.0);
  const at::Tensor upper = x.amax({0, 2}).to(at::kDouble).clamp_min_(0.0);
  // Without a metric heads share the sample: there may be one for each channel.
  at::Tensor sample;
  if (!gram.defined()) {
    sample = sample_rows(x, options.max_rows, options.row_weights).transpose(0, 1).contiguous();
  }
  const auto scorer_of_head = [&](std::int64_t head) {
    if (gram.defined()) return scorer_of(x.select(1, head), gram.select(0, head), options);
    return Scorer(OutputMetric({}, x.size(2), options.centred_error), sample.select(0, head));
  };
  auto *low = lower.mutable_data_ptr<double>(), *high = upper.mutable_data_ptr<double>();
  for (std::int64_t head = 0; head < x.size(1); ++head) {
    if (high[head] <= low[head]) continue;
    Scorer scorer = scorer_of_head(head);
    const Range range = search_range({low[head], high[head]}, scorer, bits);
    low[head] = range.lower;
    high[head] = range.upper;
  }
  return affine_grid(lower.to(at::kFloat), upper.to(at::kFloat), bits);
}

QuadraticGrid search_quadratic(const at::Tensor& x, const at::Tensor& gram, int bits,
                               const SearchOptions& options) {
  require(x.dim() == 2 && bits >= 2 && bits <= 4, "search_quadratic",
          "a sample [n, K] and bits from 2 to 4");
  const Range full = extremes(x);
  const double top = std::pow((1 << bits) - 1, 2);
  if (full.upper - full.lower <= 0) return {bits, 1.0, 0};
  Scorer scorer = scorer_of(x, gram, options);
  const auto grid_of = [&](Steps steps) {
    const double lower = full.lower * factor_of(steps[0]);
    const double upper = full.upper * factor_of(steps[1]);
    QuadraticGrid grid{bits, (upper - lower) / top, 0};
    grid.zero_point = static_cast<int>(std::clamp(std::nearbyint(-lower / grid.scale), 0.0, top));
    return grid;
  };
  TwoSidedSearch search([&](Steps steps) {
    const QuadraticGrid grid = grid_of(steps);
    return scorer.score(static_cast<float>(grid.scale), static_cast<float>(grid.zero_point),
                        static_cast<float>(grid.max_code()));
  });
  // The levels are densest at the lower end: it may pay to start them below the data's minimum.
  return grid_of(search.run({-2 * kCoarseStep, 0}));
}

double output_error(const at::Tensor& x, const at::Tensor& quantized, const at::Tensor& gram,
                    bool centred_error) {
  require(x.sizes() == quantized.sizes() && x.dim() == 2, "output_error", "two tensors [n, K]");
  if (x.size(0) == 0) return 0;
  at::Tensor error = quantized.to(at::kDouble) - x.to(at::kDouble);
  if (centred_error) error = error - error.mean(0, true);
  const at::Tensor weighted = gram.defined() ? at::mm(error, gram.to(at::kDouble)) : error;
  return (weighted * error).sum().item<double>() / static_cast<double>(x.size(0));
}

std::vector<std::int64_t> massive_channels(const at::Tensor& channel_absmax, double threshold) {
  require(channel_absmax.dim() == 1, "massive_channels", "a vector [K]");
  std::vector<std::int64_t> channels;
  if (threshold <= 0 || channel_absmax.numel() == 0) return channels;
  const at::Tensor widths = channel_absmax.to(at::kFloat).contiguous();
  const float* width = widths.const_data_ptr<float>();
  std::vector<float> sorted(width, width + widths.numel());
  const auto middle = sorted.begin() + std::ssize(sorted) / 2;
  std::nth_element(sorted.begin(), middle, sorted.end());
  if (!(*middle > 0)) return channels;
  for (std::int64_t c = 0; c < widths.numel(); ++c) {
    if (static_cast<double>(width[c]) > threshold * static_cast<double>(*middle)) {
      channels.push_back(c);
    }
  }
  return channels;
}

}  // namespace repquant
