// The paper's learned dual clipping: lower and upper factors sigmoid(theta), trained on the error
// of the following Linears' output with the straight-through estimator. The error is quadratic in
// dX, so its gradient needs the Gram matrix only, and no autograd.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "quantizer/adam.h"
#include "quantizer/channel_sample.h"

namespace repquant {
namespace {

double sigmoid(double theta) { return 1 / (1 + std::exp(-theta)); }

// Factors of 1 have no finite theta, and a gradient that vanishes close to it.
double theta_of(double factor) {
  const double inner = std::clamp(factor, 0.02, 0.98);
  return std::log(inner / (1 - inner));
}

// theta of the lower side of channel c at 2 c, of the upper side at 2 c + 1.
std::vector<double> thetas_of(const ChannelSample& sample, const std::vector<Range>& ranges) {
  std::vector<double> thetas;
  thetas.reserve(2 * ranges.size());
  for (std::size_t c = 0; c < ranges.size(); ++c) {
    const ChannelBounds& bounds = sample.bounds[c];
    const double below = bounds.centre - bounds.minimum;
    const double above = bounds.maximum - bounds.centre;
    thetas.push_back(theta_of(below > 0 ? (bounds.centre - ranges[c].lower) / below : 1));
    thetas.push_back(theta_of(above > 0 ? (ranges[c].upper - bounds.centre) / above : 1));
  }
  return thetas;
}

std::vector<Range> ranges_of(const ChannelSample& sample, const std::vector<double>& thetas) {
  std::vector<Range> ranges;
  ranges.reserve(sample.bounds.size());
  for (std::size_t c = 0; c < sample.bounds.size(); ++c) {
    ranges.push_back(sample.bounds[c].range(sigmoid(thetas[2 * c]), sigmoid(thetas[2 * c + 1])));
  }
  return ranges;
}

struct ErrorAndGradient {
  double error = 0;
  std::vector<double> gradient;  // of log(error), so that one learning rate suits every site
};

// J = tr(dX G dX^T), dJ/dx^ = 2 dX G. With x^ = s (round(x / s) + z - z), s = (hi - lo) / Q and the
// straight-through estimator on both roundings, dx^/dhi is 1 above the grid, 0 below it and
// (x^ - x) / (s Q) inside; dx^/dlo is 0, 1 and the negative of that.
ErrorAndGradient evaluate(const ChannelSample& sample, const std::vector<double>& thetas) {
  const std::vector<Range> ranges = ranges_of(sample, thetas);
  const at::Tensor errors = channel_errors(sample, ranges);
  const at::Tensor weighted = sample.gram.defined() ? at::mm(sample.gram, errors) : errors;
  ErrorAndGradient result;
  result.gradient.assign(thetas.size(), 0);
  const double max_code = (1 << sample.bits) - 1;
  for (std::int64_t c = 0; c < sample.channels(); ++c) {
    const auto at = static_cast<std::size_t>(c);
    const float* e = weighted.const_data_ptr<float>() + c * sample.rows();
    result.error += dot(e, errors.const_data_ptr<float>() + c * sample.rows(), sample.rows());
    const Range& range = ranges[at];
    if (!(range.upper > range.lower)) continue;
    const GradientSums sums = gradient_sums(sample.grid(range), sample.column(c), e, sample.rows());
    const double step = (range.upper - range.lower) / max_code;
    const double inside = sums.inside / (step * max_code);
    const ChannelBounds& bounds = sample.bounds[at];
    const double beta = sigmoid(thetas[2 * at]);
    const double alpha = sigmoid(thetas[2 * at + 1]);
    result.gradient[2 * at] =
        -2 * (sums.below - inside) * (bounds.centre - bounds.minimum) * beta * (1 - beta);
    result.gradient[2 * at + 1] =
        2 * (sums.above + inside) * (bounds.maximum - bounds.centre) * alpha * (1 - alpha);
  }
  if (result.error > 0) {
    for (double& value : result.gradient) value /= result.error;
  }
  return result;
}

}  // namespace

std::vector<Range> learn_ranges(const ChannelSample& sample, const std::vector<Range>& start,
                                int steps) {
  constexpr double kRate = 0.1;
  std::vector<double> thetas = thetas_of(sample, start);
  std::vector<double> best = thetas;
  double best_error = std::numeric_limits<double>::infinity();
  const auto vector_of = [](std::vector<double>& values) {
    return at::from_blob(values.data(), {std::ssize(values)}, at::kDouble);
  };
  // Epsilon only for gradients that are zero throughout: a side that cannot move stays.
  Adam adam(vector_of(thetas), {.second_decay = 0.99, .epsilon = 1e-150});
  for (int step = 0; step <= steps; ++step) {
    ErrorAndGradient now = evaluate(sample, thetas);
    if (now.error < best_error) {
      best_error = now.error;
      best = thetas;
    }
    if (step == steps) break;
    // Falling rate: the estimator's gradient is noisy near the optimum.
    vector_of(thetas).sub_(adam.step(vector_of(now.gradient)),
                           kRate * (1 - static_cast<double>(step) / steps));
  }
  return ranges_of(sample, best);
}

}  // namespace repquant
