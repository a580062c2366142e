#include "sweep/fit_streamed.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "base/text_table.h"
#include "compute/parallel.h"
#include "gptq/compensation.h"
#include "gptq/gptq.h"
#include "gptq/hessian.h"
#include "plan/simulate.h"
#include "repquant/error.h"

namespace repquant {
namespace {

constexpr std::int64_t kSampleValues = std::int64_t{1} << 24;
// Each shard of rows holds a K x K sum; two for each half where they are small.
constexpr std::int64_t kManyColumns = 2048;

at::Tensor as_rows(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

void require_finite_rows(const at::Tensor& x, const std::string& path) {
  if (std::isfinite(at::sum(x, at::kDouble).item<double>())) return;
  throw Error(ErrorKind::kNumerical,
              {.what = "the input of a site holds NaN or infinite values",
               .where = path,
               .hint = "check the calibration data and that the model runs in float32"});
}

struct Sample {
  at::Tensor x;                      // [n, K]
  at::Tensor row_weights;            // [n]
  std::vector<std::int64_t> begins;  // first row of each batch, and the number of rows
};

/// Evenly spaced rows, then two rows of weight 0 with every channel's extremes: they set ranges,
/// but no error counts them.
Sample sample_of(const LinearFitInput& in, const RowSource& source) {
  const std::size_t batches = source.batches;
  std::vector<std::int64_t> counts(batches);
  std::vector<at::Tensor> parts(batches), lows(batches), highs(batches);
  const std::int64_t columns = in.site->weight.size(1);
  const std::int64_t first_rows = as_rows(source.x(0)).size(0);
  const std::int64_t most =
      std::max<std::int64_t>(1, kSampleValues / columns / static_cast<std::int64_t>(batches));
  const std::int64_t stride = (first_rows + most - 1) / most;
  parallel_for(static_cast<std::int64_t>(batches), in.threads, [&](std::int64_t i) {
    const auto batch = static_cast<std::size_t>(i);
    const at::Tensor x = as_rows(source.x(batch));
    require_finite_rows(x, in.site->path);
    counts[batch] = x.size(0);
    const auto [low, high] = at::aminmax(x, 0);
    lows[batch] = low;
    highs[batch] = high;
    parts[batch] = x.slice(0, i % stride, x.size(0), stride).clone();
  });
  Sample sample;
  sample.begins.push_back(0);
  std::vector<at::Tensor> weights;
  for (std::size_t batch = 0; batch < batches; ++batch) {
    const std::int64_t begin = sample.begins.back(), end = begin + counts[batch];
    sample.begins.push_back(end);
    weights.push_back(in.row_weights.defined()
                          ? in.row_weights.slice(
                                0, begin + static_cast<std::int64_t>(batch) % stride, end, stride)
                          : at::ones({parts[batch].size(0)}, at::kDouble));
  }
  parts.push_back(at::stack(lows).amin(0, true));
  parts.push_back(at::stack(highs).amax(0, true));
  weights.push_back(at::zeros({2}, at::kDouble));
  sample.x = at::cat(parts);
  sample.row_weights = at::cat(weights);
  return sample;
}

/// Sums over some rows, weighted; codes c are counted from a fixed centre.
struct Sums {
  HessianAccumulator hessian;  // sum w c c^T
  at::Tensor cross;            // double [N, K]: sum w e c^T
  at::Tensor codes, errors;    // double [K], [N]: sum w c, sum w e
  at::Tensor missing;          // double [N]: sum w (target - side)
  double weight = 0.0;

  Sums(std::int64_t rows, std::int64_t columns, bool with_cross)
      : hessian(columns),
        codes(at::zeros({columns}, at::kDouble)),
        errors(at::zeros({rows}, at::kDouble)),
        missing(at::zeros({rows}, at::kDouble)) {
    if (with_cross) cross = at::zeros({rows, columns}, at::kDouble);
  }

  void add(Sums other) {
    hessian.merge(std::move(other.hessian));
    if (cross.defined()) cross.add_(other.cross);
    codes.add_(other.codes);
    errors.add_(other.errors);
    missing.add_(other.missing);
    weight += other.weight;
  }
};

at::Tensor weighted_sum(const at::Tensor& rows, const at::Tensor& weights) {
  return weights.defined() ? at::mv(rows.to(at::kDouble).t(), weights)
                           : rows.sum(0, false, at::kDouble);
}

/// A Linear with a decided input, as a sum over batches.
class StreamedWeight {
 public:
  StreamedWeight(const LinearFitInput& in, const RowSource& source, const LinearPlan& plan,
                 const WeightRecipe& recipe, std::vector<std::int64_t> begins)
      : in_(in), source_(source), plan_(plan), recipe_(recipe), begins_(std::move(begins)) {
    if (plan.quantized_input) {
      folded_ = folded_linear(in.site->weight, in.site->bias, fold_of(plan.input));
      scale_ = plan.input.scale;
    } else {
      folded_.weight = in.site->weight.contiguous();
      folded_.bias = in.site->bias.defined() ? in.site->bias.clone()
                                             : at::zeros({in.site->weight.size(0)}, at::kFloat);
    }
    if (!plan.side.channels.empty()) {
      side_index_ = at::tensor(plan.side.channels, at::kLong);
      folded_.weight.index_fill_(1, side_index_, 0.0);
    }
    compensates_ = plan.quantized_input && recipe.compensation != Compensation::kNone;
    centre_ = codes_of(0).mean(0);
    if (plan.quantized_input) centre_.round_();  // differences of integers are exact
  }

  /// Fills in weight and bias of `plan`; returns the strength of the compensation.
  double fit(LinearPlan& plan) {
    std::vector<Sums> halves = sum_halves();
    const double total = halves[0].weight + halves[1].weight;
    const at::Tensor mean = (halves[0].codes + halves[1].codes) / total;  // from the centre
    const at::Tensor missing = (halves[0].missing + halves[1].missing) / total;
    const at::Tensor error = (halves[0].errors + halves[1].errors) / total;
    const at::Tensor centre = centre_.to(at::kDouble);
    std::array<ErrorMoments, 2> moments;
    for (std::size_t i = 0; i < 2; ++i) {
      moments[i] = moments_of(std::move(halves[i]), mean, error, centre);
    }
    halves.clear();
    double strength = 0.0;
    at::Tensor weight = folded_.weight;
    if (compensates_) {
      const WeightChange change = compensate(moments);
      strength = change.strength;
      weight = (weight.to(at::kDouble) + change.change / scale_).to(at::kFloat);
    }
    at::Tensor hessian = moments[0].hessian.add_(moments[1].hessian);
    for (auto& half : moments) half = {};
    plan.weight = quantize_weight(weight, hessian, in_.weight_bits, recipe_, in_.threads);
    plan.bias = folded_.bias;
    if (recipe_.bias_correction && !plan.quantized_input) {
      const at::Tensor lost = folded_.weight - plan.weight.dequantize();
      plan.bias = plan.bias + at::mv(lost.to(at::kDouble), mean + centre).to(at::kFloat);
    } else if (recipe_.bias_correction) {
      const at::Tensor product = at::mv(plan.weight.dequantize().to(at::kDouble), mean + centre);
      plan.bias = (missing - product * scale_).to(at::kFloat);
    }
    return strength;
  }

 private:
  at::Tensor x_of(std::size_t batch) const { return as_rows(source_.x(batch)); }

  at::Tensor codes_of(std::size_t batch) const {
    return plan_.quantized_input ? codes_of(x_of(batch)) : x_of(batch);
  }

  /// What enters the product, [n, K].
  at::Tensor codes_of(const at::Tensor& x) const {
    at::Tensor codes = product_codes(encode(x, plan_.input), plan_.input);
    codes.sub_(static_cast<double>(plan_.input.zero_point));
    if (side_index_.defined()) codes.index_fill_(1, side_index_, 0.0);
    return codes;
  }

  at::Tensor weights_of(std::size_t batch) const {
    return in_.row_weights.defined() ? in_.row_weights.slice(0, begins_[batch], begins_[batch + 1])
                                     : at::Tensor();
  }

  /// What codes and bias should give: the target without the side columns, [n, N].
  at::Tensor missing_of(std::size_t batch, const at::Tensor& x) const {
    const bool stream = recipe_.compensation == Compensation::kStream && source_.x_float;
    at::Tensor target =
        at::linear(stream ? as_rows(source_.x_float(batch)) : x, in_.site->weight, in_.site->bias);
    if (stream && source_.residual_error) {
      target.add_(as_rows(source_.residual_error(batch)));
    }
    if (side_index_.defined()) {
      const auto& side = plan_.side;
      const at::Tensor columns = (encode_side(x, side) - side.zero_point) * side.scale;
      target.sub_(at::matmul(columns, side.weight.dequantize().t()));
    }
    return target;
  }

  void add_batch(std::size_t batch, Sums& sums) const {
    const at::Tensor x = x_of(batch);
    at::Tensor codes = plan_.quantized_input ? codes_of(x) : x;
    const at::Tensor weights = weights_of(batch);
    sums.weight +=
        weights.defined() ? weights.sum().item<double>() : static_cast<double>(codes.size(0));
    at::Tensor errors;
    if (plan_.quantized_input) {
      errors = missing_of(batch, x);
      sums.missing.add_(weighted_sum(errors, weights));
    }
    if (compensates_) {
      errors.sub_(folded_.bias).addmm_(codes, folded_.weight.t(), 1, -scale_);
      sums.errors.add_(weighted_sum(errors, weights));
    }
    codes = codes - centre_;
    sums.codes.add_(weighted_sum(codes, weights));
    if (weights.defined()) {
      const at::Tensor root = weights.sqrt().to(at::kFloat).unsqueeze(1);
      codes.mul_(root);
      if (compensates_) errors.mul_(root);
    }
    if (compensates_) sums.cross.add_(at::mm(errors.t(), codes));
    sums.hessian.add(codes);
  }

  /// The batches' first and second half.
  std::vector<Sums> sum_halves() const {
    const std::int64_t rows = folded_.weight.size(0), columns = folded_.weight.size(1);
    const std::size_t batches = source_.batches, middle = batches / 2;
    const std::size_t per_half = columns > kManyColumns ? 1 : 2;
    std::vector<Sums> shards;
    for (std::size_t i = 0; i < 2 * per_half; ++i) shards.emplace_back(rows, columns, compensates_);
    parallel_for(std::ssize(shards), in_.threads, [&](std::int64_t i) {
      const auto shard = static_cast<std::size_t>(i);
      const std::size_t half = shard / per_half, part = shard % per_half;
      const std::size_t begin = half == 0 ? 0 : middle,
                        size = half == 0 ? middle : batches - middle;
      const std::size_t from = begin + size * part / per_half;
      const std::size_t to = begin + size * (part + 1) / per_half;
      for (std::size_t batch = from; batch < to; ++batch) add_batch(batch, shards[shard]);
    });
    std::vector<Sums> halves;
    for (std::size_t half = 0; half < 2; ++half) {
      Sums sum = std::move(shards[half * per_half]);
      for (std::size_t part = 1; part < per_half; ++part) {
        sum.add(std::move(shards[half * per_half + part]));
      }
      halves.push_back(std::move(sum));
    }
    return halves;
  }

  /// About the common mean where the bias takes up the mean error, else about zero.
  ErrorMoments moments_of(Sums sums, const at::Tensor& mean, const at::Tensor& error,
                          const at::Tensor& centre) const {
    // sum w (c - a)(c - a)^T = sum w c c^T - a u^T - u a^T + S a a^T, u = sum w c
    const at::Tensor a = recipe_.bias_correction ? mean : -centre;
    ErrorMoments moments;
    moments.hessian = sums.hessian.hessian();
    const at::Tensor outer = at::outer(a, sums.codes);
    moments.hessian.sub_(outer).sub_(outer.t()).add_(at::outer(a, a).mul_(sums.weight));
    moments.hessian.diagonal().clamp_min_(0);
    if (compensates_) {
      const at::Tensor b = recipe_.bias_correction ? error : at::zeros_like(error);
      moments.cross = std::move(sums.cross);
      moments.cross.sub_(at::outer(b, sums.codes))
          .sub_(at::outer(sums.errors, a))
          .add_(at::outer(b, a).mul_(sums.weight));
    }
    return moments;
  }

  const LinearFitInput& in_;
  const RowSource& source_;
  const LinearPlan& plan_;
  const WeightRecipe& recipe_;
  std::vector<std::int64_t> begins_;
  FoldedLinear folded_;
  double scale_ = 1.0;
  at::Tensor side_index_, centre_;
  bool compensates_ = false;
};

}  // namespace

LinearPlan fit_linear_streamed(const LinearFitInput& input, const RowSource& rows,
                               const Recipe& whole, std::string& note) {
  LinearPlan plan;
  Recipe recipe = whole;
  std::string choice;
  std::vector<std::int64_t> begins;
  {
    const Sample sample = sample_of(input, rows);
    begins = sample.begins;
    if (input.activation_bits == 16) {
      plan.quantized_input = false;
    } else {
      recipe.weights.group_size = 0;  // an integer product has one scale for each row
      LinearFitInput sampled = input;
      sampled.row_weights = sample.row_weights;
      plan.input = fit_input(sample.x, sampled, recipe, plan.side, choice);
    }
  }
  LinearFitInput used = input;
  if (!plan.quantized_input) used.row_weights = at::Tensor();  // as the fit in memory
  const double strength = StreamedWeight(used, rows, plan, recipe.weights, begins).fit(plan);
  note = describe_linear(plan) + choice;
  if (strength > 0) note += "; compensation " + format_number(strength, 2);
  return plan;
}

}  // namespace repquant
