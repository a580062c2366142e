#include "fit/fit_streamed.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/text_table.h"
#include "fit/fit_input.h"
#include "fit/fit_weight.h"
#include "fit/rows.h"
#include "gptq/compensation.h"
#include "gptq/hessian.h"
#include "plan/simulate.h"
#include "tensor/parallel.h"

namespace repquant {
namespace {

// Each shard of rows holds a K x K sum; two for each half where they are small.
constexpr std::int64_t kManyColumns = 2048;

/// Batches [from, to) that one thread adds up.
struct Shard {
  std::size_t from, to;
};

/// The first and the second half of the batches in `parts` shards each.
std::vector<Shard> shards_of(std::size_t batches, std::size_t parts) {
  const std::size_t middle = batches / 2;
  std::vector<Shard> shards;
  for (std::size_t half = 0; half < 2; ++half) {
    const std::size_t begin = half == 0 ? 0 : middle, size = half == 0 ? middle : batches - middle;
    for (std::size_t part = 0; part < parts; ++part) {
      shards.push_back({begin + size * part / parts, begin + size * (part + 1) / parts});
    }
  }
  return shards;
}

std::size_t parts_for(std::int64_t columns) { return columns > kManyColumns ? 1 : 2; }

at::Tensor batch_rows(const RowSource& source, const LinearFitInput& in, std::size_t batch) {
  at::Tensor x = rows_of({source.x(batch)});
  require_finite(x, in.site->path);
  return x;
}

/// Some rows to fit a grid on. Extremes are rows of weight 0: they set ranges, but no error counts
/// them. Each half of the rows has its own ones, since ranges are cross-validated.
struct Sample {
  WeightedRows rows;
  std::vector<std::int64_t> begins;  // first row of each batch among all, and the number of rows
};

/// What one batch gives to the sample.
struct SamplePart {
  at::Tensor rows, low, high;
  std::int64_t count = 0;  // rows of the batch
};

Sample sample_of(const LinearFitInput& in, const RowSource& source) {
  std::vector<SamplePart> parts(source.batches);
  const std::int64_t columns = in.site->weight.size(1);
  const std::int64_t most =
      std::max<std::int64_t>(1, kSampleValues / columns / std::ssize(parts));  // of a batch
  const std::int64_t stride = (rows_of({source.x(0)}).size(0) + most - 1) / most;
  parallel_for(std::ssize(parts), in.threads, [&](std::int64_t i) {
    const auto batch = static_cast<std::size_t>(i);
    const at::Tensor x = batch_rows(source, in, batch);
    const auto [low, high] = at::aminmax(x, 0);
    parts[batch] = {x.slice(0, i % stride, x.size(0), stride).clone(), low, high, x.size(0)};
  });
  Sample sample{.rows = {}, .begins = {0}};
  std::vector<at::Tensor> rows, weights;
  const std::size_t middle = parts.size() / 2;
  at::Tensor low, high;
  for (std::size_t batch = 0; batch < parts.size(); ++batch) {
    const SamplePart& part = parts[batch];
    const std::int64_t begin = sample.begins.back(), end = begin + part.count;
    const std::int64_t first = begin + static_cast<std::int64_t>(batch) % stride;
    sample.begins.push_back(end);
    rows.push_back(part.rows);
    weights.push_back(in.row_weights.defined() ? in.row_weights.slice(0, first, end, stride)
                                               : at::ones({part.rows.size(0)}, at::kDouble));
    low = low.defined() ? at::minimum(low, part.low) : part.low;
    high = high.defined() ? at::maximum(high, part.high) : part.high;
    if (batch + 1 == middle || batch + 1 == parts.size()) {
      rows.push_back(at::stack({low, high}));
      weights.push_back(at::zeros({2}, at::kDouble));
      low = high = at::Tensor();
    }
  }
  sample.rows = {at::cat(rows), at::cat(weights)};
  return sample;
}

/// Sums over some rows, weighted; codes c are counted from a fixed centre.
struct Sums {
  HessianAccumulator hessian;  // sum w c c^T
  at::Tensor cross;            // double [N, K]: sum w e c^T; or undefined
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

/// fit_weight() of a Linear with a decided input, as sums over batches.
class StreamedWeight {
 public:
  StreamedWeight(const LinearFitInput& in, const RowSource& source, const LinearPlan& plan,
                 const WeightRecipe& recipe, const std::vector<std::int64_t>& begins)
      : in_(in),
        source_(source),
        plan_(plan),
        recipe_(recipe),
        begins_(begins),
        folded_(folded_linear(in.site->weight, in.site->bias, fold_of(plan.input))),
        compensates_(recipe.compensation != Compensation::kNone && in.rounded == nullptr) {
    folded_.weight = without_channels(folded_.weight, plan.side.channels);
    centre_ = codes_of(rows_of({source.x(0)})).mean(0);
    if (!plan.input.per_token) centre_.round_();  // integers: differences are exact
  }

  FittedWeight fit() const {
    std::vector<Sums> halves = sum_halves();
    const double total = halves[0].weight + halves[1].weight;
    const at::Tensor mean = (halves[0].codes + halves[1].codes) / total;  // from the centre
    const at::Tensor missing = (halves[0].missing + halves[1].missing) / total;
    PreparedWeight prepared{.weight = folded_.weight,
                            .hessian = {},
                            .mean = mean + centre_.to(at::kDouble),
                            .recipe = recipe_,
                            .rounded = in_.rounded};
    if (in_.rounded == nullptr) prepare(std::move(halves), mean, total, prepared);
    return round_weight(prepared, folded_.bias, missing, plan_.input.scale, in_.weight_bits,
                        in_.threads);
  }

 private:
  /// Compensates and measures the Hessian; `mean` of the codes from the centre, `total` weight.
  void prepare(std::vector<Sums> halves, const at::Tensor& mean, double total,
               PreparedWeight& prepared) const {
    const at::Tensor error = (halves[0].errors + halves[1].errors) / total;
    std::array<ErrorMoments, 2> moments;
    for (std::size_t i = 0; i < 2; ++i) moments[i] = moments_of(std::move(halves[i]), mean, error);
    halves.clear();
    const double counted = counted_rows(in_.row_weights, begins_.back());
    if (compensates_) {
      const WeightChange change = compensate(moments, counted);
      prepared.compensation = change.strength;
      prepared.weight =
          (folded_.weight.to(at::kDouble) + change.change / plan_.input.scale).to(at::kFloat);
    }
    prepared.hessian = moments[0].hessian.add_(moments[1].hessian);
    moments = {};
    prepared.recipe = with_damping(recipe_, prepared.hessian, counted);
  }

  /// What enters the product, [n, K].
  at::Tensor codes_of(const at::Tensor& x) const {
    return without_channels(product_input(x, plan_.input), plan_.side.channels);
  }

  at::Tensor weights_of(std::size_t batch) const {
    return in_.row_weights.defined() ? in_.row_weights.slice(0, begins_[batch], begins_[batch + 1])
                                     : at::Tensor();
  }

  /// What codes and bias should give: the target without the side columns, [n, N].
  at::Tensor missing_of(std::size_t batch, const at::Tensor& x) const {
    const bool stream = recipe_.compensation == Compensation::kStream && source_.x_float;
    at::Tensor target = at::linear(stream ? rows_of({source_.x_float(batch)}) : x, in_.site->weight,
                                   in_.site->bias);
    if (stream && source_.residual_error) target.add_(rows_of({source_.residual_error(batch)}));
    if (!plan_.side.channels.empty()) target.sub_(side_output(x, plan_.side));
    return target;
  }

  void add_batch(std::size_t batch, Sums& sums) const {
    const at::Tensor x = rows_of({source_.x(batch)});
    at::Tensor codes = codes_of(x);
    const at::Tensor weights = weights_of(batch);
    sums.weight +=
        weights.defined() ? weights.sum().item<double>() : static_cast<double>(codes.size(0));
    at::Tensor errors = missing_of(batch, x);
    sums.missing.add_(weighted_sum(errors, weights));
    if (compensates_) {
      errors.sub_(folded_.bias).addmm_(codes, folded_.weight.t(), 1, -plan_.input.scale);
      sums.errors.add_(weighted_sum(errors, weights));
    }
    codes.sub_(centre_);
    sums.codes.add_(weighted_sum(codes, weights));
    if (weights.defined()) {
      const at::Tensor root = weights.sqrt().to(at::kFloat).unsqueeze(1);
      codes.mul_(root);
      errors.mul_(root);
    }
    if (compensates_) sums.cross.add_(at::mm(errors.t(), codes));
    if (in_.rounded == nullptr) sums.hessian.add(codes);
  }

  std::vector<Sums> sum_halves() const {
    const std::int64_t rows = folded_.weight.size(0), columns = folded_.weight.size(1);
    const std::size_t parts = parts_for(columns);
    const std::vector<Shard> shards = shards_of(source_.batches, parts);
    std::vector<Sums> sums;
    for (std::size_t i = 0; i < shards.size(); ++i) sums.emplace_back(rows, columns, compensates_);
    parallel_for(std::ssize(shards), in_.threads, [&](std::int64_t i) {
      const auto at = static_cast<std::size_t>(i);
      for (std::size_t b = shards[at].from; b < shards[at].to; ++b) add_batch(b, sums[at]);
    });
    std::vector<Sums> halves;
    for (std::size_t half = 0; half < 2; ++half) {
      Sums sum = std::move(sums[half * parts]);
      for (std::size_t part = 1; part < parts; ++part) {
        sum.add(std::move(sums[half * parts + part]));
      }
      halves.push_back(std::move(sum));
    }
    return halves;
  }

  /// About the common mean where the bias takes up the mean error, else about zero.
  ErrorMoments moments_of(Sums sums, const at::Tensor& mean, const at::Tensor& error) const {
    // sum w (c - a)(c - a)^T = sum w c c^T - a u^T - u a^T + S a a^T, u = sum w c
    const at::Tensor a = recipe_.bias_correction ? mean : -centre_.to(at::kDouble);
    ErrorMoments moments;
    moments.hessian = sums.hessian.hessian();
    const at::Tensor outer = at::outer(a, sums.codes);
    moments.hessian.sub_(outer).sub_(outer.t()).add_(at::outer(a, a).mul_(sums.weight));
    moments.hessian.diagonal().clamp_min_(0);  // rounding may leave a constant column just below
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
  const std::vector<std::int64_t>& begins_;
  FoldedLinear folded_;
  at::Tensor centre_;  // float32 [K]
  bool compensates_;
};

LinearPlan fit_weight_only_streamed(const LinearFitInput& in, const RowSource& source,
                                    const Recipe& recipe) {
  const std::int64_t columns = in.site->weight.size(1);
  const std::vector<Shard> shards = shards_of(source.batches, parts_for(columns));
  std::vector<HessianAccumulator> sums(shards.size(), HessianAccumulator(1));
  parallel_for(std::ssize(shards), in.threads, [&](std::int64_t i) {
    const auto at = static_cast<std::size_t>(i);
    sums[at] = HessianAccumulator(columns);
    for (std::size_t b = shards[at].from; b < shards[at].to; ++b) {
      sums[at].add(batch_rows(source, in, b));
    }
  });
  for (std::size_t i = 1; i < sums.size(); ++i) sums[0].merge(std::move(sums[i]));
  const at::Tensor mean = sums[0].mean();
  const at::Tensor hessian =
      recipe.weights.bias_correction ? sums[0].centred_hessian() : sums[0].hessian();
  sums.clear();
  return fit_weight_only(in, hessian, mean, recipe);
}

}  // namespace

LinearPlan fit_linear_streamed(const LinearFitInput& input, const RowSource& rows,
                               const Recipe& recipe, std::string& note) {
  if (input.activation_bits == kWeightOnlyBits) {
    LinearPlan plan = fit_weight_only_streamed(input, rows, recipe);
    note = describe(plan);
    return plan;
  }
  Recipe rowwise = recipe;
  rowwise.weights.group_size = 0;  // an integer product has one scale for each row
  LinearPlan plan;
  std::vector<std::int64_t> begins;
  std::string choice;
  {
    const Sample sample = sample_of(input, rows);
    begins = sample.begins;
    LinearFitInput sampled = input;
    sampled.row_weights = sample.rows.weights;
    FittedInput fitted = fit_input(sample.rows.x, sampled, rowwise);
    plan.input = std::move(fitted.quantizer);
    plan.side = std::move(fitted.side);
    choice = std::move(fitted.note);
  }
  FittedWeight fitted = StreamedWeight(input, rows, plan, rowwise.weights, begins).fit();
  plan.weight = std::move(fitted.weight);
  plan.bias = std::move(fitted.bias);
  note = describe(plan) + choice;
  if (fitted.compensation > 0) note += "; compensation " + format_number(fitted.compensation, 2);
  return plan;
}

}  // namespace repquant
