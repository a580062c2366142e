#include "quantizer/dual_clipping.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "quantizer/channel_sample.h"
#include "quantizer/sample_rows.h"
#include "tensor/check.h"

namespace repquant {
namespace {

/// Of coordinate descent.
constexpr int kPasses = 2;

// Per side: share of the values that lies beyond the clipping bound.
constexpr std::array<double, 10> kTailShares = {0.0,  0.0003, 0.001, 0.003, 0.006,
                                                0.01, 0.02,   0.035, 0.06,  0.1};
// Changes of one side in coordinate descent.
constexpr std::array<double, 6> kMoves = {0.7, 0.85, 0.95, 1.05, 1.15, 1.4};

// Learning multiplies by G in every step: rows are limited where G is large.
std::int64_t used_rows(std::int64_t channels, Clipping method, std::int64_t max_rows) {
  constexpr std::int64_t kProductsPerStep = 600'000'000;
  constexpr std::int64_t kLeast = 256;
  if (method != Clipping::kLearned) return max_rows;
  return std::min(max_rows, std::max(kLeast, kProductsPerStep / (channels * channels)));
}

ChannelSample make_sample(const at::Tensor& x, const at::Tensor& gram, int bits,
                          const ClippingOptions& options) {
  require_finite(x, "clip_channels", "the sample");
  ChannelSample sample;
  sample.columns = sample_rows(x, options.max_rows, options.row_weights).t().contiguous();
  sample.bits = bits;
  sample.integer_zero_point = options.integer_zero_point;
  sample.centred = options.centred_error;
  if (gram.defined()) {
    require(gram.dim() == 2 && gram.size(0) == x.size(1) && gram.size(1) == x.size(1),
            "clip_channels", "a Gram matrix [C, C]");
    require_finite(gram, "clip_channels", "the Gram matrix");
    sample.gram = gram.to(at::kFloat).contiguous();
  }
  // Extremes of all rows; the errors are those of the used ones.
  const at::Tensor low = at::amin(x, 0).to(at::kDouble);
  const at::Tensor high = at::amax(x, 0).to(at::kDouble);
  const at::Tensor mean = x.mean(0, false, at::kDouble);
  for (std::int64_t c = 0; c < x.size(1); ++c) {
    ChannelBounds bounds{low[c].item<double>(), high[c].item<double>(), 0};
    if (bounds.minimum > 0 || bounds.maximum < 0) {
      bounds.centre = std::clamp(mean[c].item<double>(), bounds.minimum, bounds.maximum);
    }
    sample.bounds.push_back(bounds);
  }
  return sample;
}

std::vector<Range> extreme_ranges(const ChannelSample& sample) {
  std::vector<Range> ranges;
  for (const ChannelBounds& bounds : sample.bounds) ranges.push_back(bounds.range(1, 1));
  return ranges;
}

// Bounds per side that leave the given shares of the values outside. Never across the centre.
struct SideCandidates {
  std::vector<double> lower;
  std::vector<double> upper;
};

SideCandidates percentile_bounds(const ChannelSample& sample, std::int64_t channel) {
  const ChannelBounds& bounds = sample.bounds[static_cast<std::size_t>(channel)];
  std::vector<float> sorted(sample.column(channel), sample.column(channel) + sample.rows());
  std::sort(sorted.begin(), sorted.end());
  SideCandidates candidates{{bounds.minimum}, {bounds.maximum}};
  for (const double share : kTailShares) {
    const auto beyond =
        static_cast<std::ptrdiff_t>(std::lround(share * static_cast<double>(sample.rows() - 1)));
    if (beyond == 0) continue;
    const double lower = static_cast<double>(sorted[static_cast<std::size_t>(beyond)]);
    const double upper = static_cast<double>(*(sorted.rbegin() + beyond));
    if (lower < bounds.centre) candidates.lower.push_back(lower);
    if (upper > bounds.centre) candidates.upper.push_back(upper);
  }
  return candidates;
}

// The channel's squared error, each side in turn with the other one held.
Range percentile_range(const ChannelSample& sample, std::int64_t channel) {
  const SideCandidates candidates = percentile_bounds(sample, channel);
  Range best{candidates.lower.front(), candidates.upper.front()};
  if (!(best.upper > best.lower)) return best;
  double best_error = std::numeric_limits<double>::infinity();
  const auto consider = [&](const Range& range) {
    const double error = squared_error(sample.grid(range), sample.column(channel), sample.rows());
    if (error < best_error) {
      best_error = error;
      best = range;
    }
  };
  consider(best);
  constexpr int kRounds = 2;
  for (int round = 0; round < kRounds; ++round) {
    for (const double upper : candidates.upper) consider({best.lower, upper});
    for (const double lower : candidates.lower) consider({lower, best.upper});
  }
  return best;
}

std::vector<Range> percentile_ranges(const ChannelSample& sample) {
  std::vector<Range> ranges;
  for (std::int64_t c = 0; c < sample.channels(); ++c) {
    ranges.push_back(percentile_range(sample, c));
  }
  return ranges;
}

// Coordinate descent on J = tr(dX G dX^T), one channel at a time. With E = G dX^T held up to date,
// the change of J when the column d becomes d' is 2 (d' - d) E_c + G_cc |d' - d|^2.
class CoordinateDescent {
 public:
  CoordinateDescent(const ChannelSample& sample, std::vector<Range> start)
      : sample_(sample), ranges_(std::move(start)) {}

  void pass() {
    // Recomputed once per pass, so that rounding does not build up.
    errors_ = channel_errors(sample_, ranges_);
    weighted_ = sample_.gram.defined() ? at::mm(sample_.gram, errors_) : errors_.clone();
    for (std::int64_t c = 0; c < sample_.channels(); ++c) improve(c);
  }

  const std::vector<Range>& ranges() const { return ranges_; }

 private:
  double gram(std::int64_t row, std::int64_t column) const {
    if (!sample_.gram.defined()) return row == column ? 1 : 0;
    return static_cast<double>(
        sample_.gram.const_data_ptr<float>()[row * sample_.channels() + column]);
  }
  float* error(std::int64_t c) { return errors_.data_ptr<float>() + c * sample_.rows(); }
  float* weighted(std::int64_t c) { return weighted_.data_ptr<float>() + c * sample_.rows(); }

  double change_of(std::int64_t c, const Range& range) {
    const ChangeSums sums =
        change_sums(sample_.grid(range), sample_.column(c), error(c), weighted(c), sample_.rows());
    // Centred: d and E_c sum to zero already, so only the mean of d' is to be taken out.
    const double mean_square =
        sample_.centred ? sums.sum * sums.sum / static_cast<double>(sample_.rows()) : 0;
    return 2 * sums.product + gram(c, c) * (sums.square - mean_square);
  }

  void improve(std::int64_t c) {
    const ChannelBounds& bounds = sample_.bounds[static_cast<std::size_t>(c)];
    Range& current = ranges_[static_cast<std::size_t>(c)];
    if (!(current.upper > current.lower)) return;
    Range best = current;
    double best_change = 0;
    const auto consider = [&](Range range) {
      range.lower = std::clamp(range.lower, bounds.minimum, bounds.centre);
      range.upper = std::clamp(range.upper, bounds.centre, bounds.maximum);
      if (!(range.upper > range.lower)) return;
      const double change = change_of(c, range);
      if (change < best_change) {
        best_change = change;
        best = range;
      }
    };
    const double centre = bounds.centre;
    for (const double move : kMoves) {
      consider({current.lower, centre + move * (current.upper - centre)});
    }
    const double upper = best.upper;
    for (const double move : kMoves) {
      consider({centre - move * (centre - current.lower), upper});
    }
    if (best_change < 0) accept(c, best);
  }

  void accept(std::int64_t c, const Range& range) {
    const std::int64_t rows = sample_.rows();
    std::vector<float> change(static_cast<std::size_t>(rows));
    quantization_error(sample_.grid(range), sample_.column(c), change.data(), rows);
    if (sample_.centred) {
      const auto mean = static_cast<float>(sum_of(change.data(), rows) / static_cast<double>(rows));
      for (float& value : change) value -= mean;
    }
    float* own = error(c);
    for (std::int64_t i = 0; i < rows; ++i) {
      const float updated = change[static_cast<std::size_t>(i)];
      change[static_cast<std::size_t>(i)] = updated - own[i];
      own[i] = updated;
    }
    for (std::int64_t other = 0; other < sample_.channels(); ++other) {
      const auto coefficient = static_cast<float>(gram(c, other));
      if (coefficient != 0) add_scaled(weighted(other), change.data(), coefficient, rows);
    }
    ranges_[static_cast<std::size_t>(c)] = range;
  }

  const ChannelSample& sample_;
  std::vector<Range> ranges_;
  at::Tensor errors_;    // dX^T [C, n]
  at::Tensor weighted_;  // G dX^T [C, n]
};

std::vector<Range> descend(const ChannelSample& sample, const std::vector<Range>& start) {
  CoordinateDescent descent(sample, start);
  for (int pass = 0; pass < kPasses; ++pass) descent.pass();
  return descent.ranges();
}

const std::vector<Range>& better(const ChannelSample& sample, const std::vector<Range>& a,
                                 const std::vector<Range>& b) {
  return layer_error(sample, a) <= layer_error(sample, b) ? a : b;
}

}  // namespace

at::Tensor channel_errors(const ChannelSample& sample, const std::vector<Range>& ranges) {
  const at::Tensor errors = at::empty_like(sample.columns);
  for (std::int64_t c = 0; c < sample.channels(); ++c) {
    quantization_error(sample.grid(ranges[static_cast<std::size_t>(c)]), sample.column(c),
                       errors.data_ptr<float>() + c * sample.rows(), sample.rows());
  }
  return sample.centred ? errors - errors.mean(1, true) : errors;
}

double layer_error(const ChannelSample& sample, const std::vector<Range>& ranges) {
  const at::Tensor errors = channel_errors(sample, ranges);
  const at::Tensor weighted = sample.gram.defined() ? at::mm(sample.gram, errors) : errors;
  double sum = 0;
  for (std::int64_t c = 0; c < sample.channels(); ++c) {
    const std::int64_t at = c * sample.rows();
    sum += dot(weighted.const_data_ptr<float>() + at, errors.const_data_ptr<float>() + at,
               sample.rows());
  }
  return sum;
}

ChannelRange clip_channels(const at::Tensor& x, const at::Tensor& gram, int bits, Clipping method,
                           const ClippingOptions& options) {
  require(bits >= 2 && bits <= 8, "clip_channels", "bits from 2 to 8");
  require(x.dim() == 2 && x.numel() > 0, "clip_channels", "a sample [n, C] that is not empty");
  ClippingOptions limited = options;
  limited.max_rows = used_rows(x.size(1), method, options.max_rows);
  const ChannelSample sample = make_sample(x, gram, bits, limited);
  std::vector<Range> ranges = extreme_ranges(sample);
  if (method != Clipping::kMinMax) {
    const std::vector<Range> percentile = percentile_ranges(sample);
    if (method == Clipping::kPercentile) {
      ranges = percentile;
    } else {
      const std::vector<Range> start = better(sample, percentile, ranges);
      const std::vector<Range> found = method == Clipping::kSearch
                                           ? descend(sample, start)
                                           : learn_ranges(sample, start, options.steps);
      ranges = better(sample, found, start);
    }
  }
  ChannelRange result{at::empty({sample.channels()}, at::kFloat),
                      at::empty({sample.channels()}, at::kFloat)};
  for (std::int64_t c = 0; c < sample.channels(); ++c) {
    const Range& range = ranges[static_cast<std::size_t>(c)];
    result.lower.data_ptr<float>()[c] = static_cast<float>(range.lower);
    result.upper.data_ptr<float>()[c] = static_cast<float>(range.upper);
  }
  return result;
}

}  // namespace repquant
