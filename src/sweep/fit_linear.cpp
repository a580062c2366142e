#include "sweep/fit_linear.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "base/text_table.h"
#include "compute/parallel.h"
#include "gptq/gptq.h"
#include "gptq/hessian.h"
#include "plan/simulate.h"
#include "quantizer/affine.h"
#include "quantizer/dual_clipping.h"
#include "quantizer/output_metric.h"
#include "quantizer/quadratic.h"
#include "quantizer/range_search.h"
#include "reparam/fold.h"
#include "repquant/error.h"
#include "sweep/fit_weight.h"

namespace repquant {
namespace {

// A massive channel reaches higher on other data than on the calibration data.
constexpr double kMassiveHeadRoom = 1.25;

at::Tensor rows_of(const std::vector<at::Tensor>& batches) {
  std::vector<at::Tensor> rows;
  rows.reserve(batches.size());
  for (const auto& batch : batches) rows.push_back(batch.reshape({-1, batch.size(-1)}));
  return rows.size() == 1 ? rows[0].contiguous() : at::cat(rows);
}

void require_finite(const at::Tensor& x, const std::string& path) {
  // The sum is finite exactly if all values are (no float32 activation sum overflows a double).
  if (std::isfinite(at::sum(x, at::kDouble).item<double>())) return;
  throw Error(ErrorKind::kNumerical,
              {.what = "the input of a site holds NaN or infinite values",
               .where = path,
               .hint = "check the calibration data and that the model runs in float32"});
}

InputQuantizer from_fold(const FoldPlan& plan) {
  InputQuantizer quantizer;
  quantizer.bits = plan.bits;
  quantizer.scale = plan.scale;
  quantizer.zero_point = plan.zero_point;
  quantizer.multiplier = (plan.ratio * plan.scale).reciprocal();
  quantizer.offset = static_cast<double>(plan.zero_point) - plan.shift / plan.scale;
  return quantizer;
}

InputQuantizer from_grid(const AffineGrid& grid) {
  InputQuantizer quantizer;
  quantizer.bits = grid.bits;
  quantizer.scale = grid.scale.item<double>();
  quantizer.zero_point = static_cast<int>(std::lround(grid.zero_point.item<double>()));
  quantizer.multiplier = grid.scale.reciprocal().reshape({1});
  quantizer.offset = grid.zero_point.reshape({1}).clone();
  return quantizer;
}

InputQuantizer from_quadratic(const QuadraticGrid& grid) {
  InputQuantizer quantizer;
  quantizer.bits = grid.bits;
  quantizer.form = CodeForm::kQuadratic;
  quantizer.scale = grid.scale;
  quantizer.zero_point = grid.zero_point;
  quantizer.multiplier = at::full({1}, 1.0 / grid.scale, at::kFloat);
  quantizer.offset = at::full({1}, static_cast<double>(grid.zero_point), at::kFloat);
  return quantizer;
}

/// Padding between norm and Linear inserts true zeros, so all channels must share one zero point.
FoldPlan scale_only_plan(const ChannelRange& range, int bits) {
  const int max_code = (1 << bits) - 1;
  const double low = -range.lower.clamp_max(0).sum().item<double>();
  const double high = range.upper.clamp_min(0).sum().item<double>();
  const double share = low + high > 0 ? low / (low + high) : 0.5;
  const int zero = std::clamp(static_cast<int>(std::lround(share * max_code)), 1, max_code - 1);
  const auto scale = at::maximum(range.upper / static_cast<double>(max_code - zero),
                                 -range.lower / static_cast<double>(zero))
                         .clamp_min(1e-8);
  AffineGrid grid;
  grid.bits = bits;
  grid.scale = scale;
  grid.zero_point = at::full_like(scale, static_cast<double>(zero));
  return plan_scale_fold(grid, zero);
}

InputQuantizer fit_per_channel(const at::Tensor& x, const LinearFitInput& in,
                               const NormRecipe& recipe, bool centred) {
  ClippingOptions options;
  options.integer_zero_point = recipe.integer_offsets;
  options.centred_error = centred;
  options.row_weights = in.row_weights;
  const auto range = clip_channels(x, in.gram, in.activation_bits, recipe.clipping, options);
  if (in.site->scale_only_fold && in.site->norm != nullptr) {
    return from_fold(scale_only_plan(range, in.activation_bits));
  }
  const auto grid =
      affine_grid(range.lower, range.upper, in.activation_bits, recipe.integer_offsets);
  return from_fold(recipe.fold_exponent == 1.0
                       ? plan_fold(grid)
                       : search_fold(grid, recipe.fold_exponent, x, in.gram));
}

/// Error of the layer's output, activation and weight both quantized to nearest, on sample rows.
double joint_error(const at::Tensor& x, const LinearFitInput& in, const InputQuantizer& quantizer,
                   const WeightRecipe& recipe) {
  const auto sample = sample_rows(x, 512, in.row_weights);
  const auto folded = folded_linear(in.site->weight, in.site->bias, fold_of(quantizer));
  LinearPlan plan;
  plan.input = quantizer;
  WeightRecipe nearest = recipe;
  nearest.rounding = WeightRounding::kNearest;
  plan.weight = quantize_weight(folded.weight, {}, in.weight_bits, nearest, in.threads);
  plan.bias = folded.bias;
  const auto target = at::matmul(sample, in.site->weight.t());
  auto error = simulate_linear(plan, sample) - target;
  if (recipe.bias_correction || in.site->bias.defined()) error -= error.mean(0);
  return error.square().sum(at::kDouble).item<double>();
}

bool wants_quadratic(const LinearFitInput& in, const InputRecipe& recipe) {
  if (in.site->source != InputSource::kGelu || in.activation_bits > 4) return false;
  return recipe.gelu_grid != GeluGrid::kUniform;
}

/// Columns that get their own 8-bit block; their main column is zero from here on.
SideColumns fit_side(const at::Tensor& x, const LinearFitInput& in, const Recipe& recipe) {
  SideColumns side;
  side.bits = recipe.input.massive_bits;
  const auto [low, high] = at::aminmax(x, 0);
  const auto absmax = at::maximum(low.abs(), high.abs());
  side.channels = massive_channels(absmax, recipe.input.massive_threshold);
  if (side.channels.empty()) return side;
  const auto index = at::tensor(side.channels, at::kLong);
  const auto grid =
      affine_grid(low.index_select(0, index).clamp_max(0) * kMassiveHeadRoom,
                  high.index_select(0, index).clamp_min(0) * kMassiveHeadRoom, side.bits);
  side.scale = grid.scale;
  side.zero_point = grid.zero_point;
  WeightRecipe nearest;
  nearest.rounding = WeightRounding::kNearest;
  nearest.scale_search = false;
  side.weight = quantize_weight(in.site->weight.index_select(1, index).contiguous(), {}, 8, nearest,
                                in.threads);
  return side;
}

InputQuantizer fit_per_tensor(const at::Tensor& x, const at::Tensor& gram, const LinearFitInput& in,
                              const Recipe& recipe, bool centred) {
  SearchOptions options;
  options.centred_error = centred;
  options.row_weights = in.row_weights;
  if (wants_quadratic(in, recipe.input)) {
    return from_quadratic(search_quadratic(x, gram, in.activation_bits, options));
  }
  return from_grid(search_per_tensor(x, gram, in.activation_bits, options));
}

/// What a comparison of both granularities gave; `ratio`: error per channel / error per tensor.
std::string describe_choice(double ratio) {
  std::ostringstream text;
  text.precision(2);
  text << "; error per channel / per tensor " << std::fixed << ratio;
  return text.str();
}

/// What the output should be, with bias, [n, N]; see Compensation.
at::Tensor target_of(const at::Tensor& x, const LinearFitInput& in, const WeightRecipe& recipe) {
  const bool stream = recipe.compensation == Compensation::kStream && !in.x_float.empty();
  const at::Tensor input = stream ? rows_of(in.x_float) : x;
  at::Tensor target = at::empty({input.size(0), in.site->weight.size(0)}, at::kFloat);
  constexpr std::int64_t kChunks = 8;  // fixed, so that results do not depend on threads
  const std::int64_t rows = input.size(0), chunk = (rows + kChunks - 1) / kChunks;
  parallel_for(kChunks, in.threads, [&](std::int64_t i) {
    const std::int64_t from = std::min(rows, i * chunk), to = std::min(rows, from + chunk);
    if (from == to) return;
    target.slice(0, from, to).copy_(
        at::linear(input.slice(0, from, to), in.site->weight, in.site->bias));
  });
  if (stream && !in.residual_error.empty()) target.add_(rows_of(in.residual_error));
  return target;
}

/// What the side columns add to the output, [n, N].
at::Tensor side_output(const at::Tensor& x, const SideColumns& side) {
  const at::Tensor columns = (encode_side(x, side) - side.zero_point) * side.scale;
  return at::matmul(columns, side.weight.dequantize().t());
}

LinearPlan fit_weight_only(const LinearFitInput& in, const Recipe& recipe, std::string& note) {
  LinearPlan plan;
  plan.quantized_input = false;
  const bool centred = recipe.weights.bias_correction;
  at::Tensor hessian, mean;
  {  // its own sums are not needed any longer then
    auto accumulator = accumulate_hessian(in.x, in.threads);
    hessian = centred ? accumulator.centred_hessian() : accumulator.hessian();
    mean = accumulator.mean();
  }
  plan.weight = quantize_weight(in.site->weight.contiguous(), hessian, in.weight_bits,
                                recipe.weights, in.threads);
  plan.bias = in.site->bias.defined() ? in.site->bias.clone()
                                      : at::zeros({in.site->weight.size(0)}, at::kFloat);
  if (centred) {
    const auto change = in.site->weight - plan.weight.dequantize();
    plan.bias += at::mv(change.to(at::kDouble), mean).to(at::kFloat);
  }
  note = describe_linear(plan);
  return plan;
}

}  // namespace

InputQuantizer fit_input(const at::Tensor& x, const LinearFitInput& in, const Recipe& recipe,
                         SideColumns& side, std::string& choice) {
  const bool centred = recipe.weights.bias_correction;
  const bool from_norm = in.site->source == InputSource::kNorm || in.site->norm != nullptr;
  auto granularity = from_norm ? recipe.norm.granularity : recipe.input.granularity;
  // Where no norm can carry the vectors they cost a pass of their own: only if they pay.
  const bool at_run_time = from_norm && in.site->norm == nullptr;
  if (at_run_time && granularity == InputGranularity::kPerChannel) {
    granularity = InputGranularity::kAuto;
  }
  if (in.shared != nullptr) return *in.shared;
  if (granularity == InputGranularity::kPerChannel && !wants_quadratic(in, recipe.input)) {
    return fit_per_channel(x, in, recipe.norm, centred);
  }
  at::Tensor rows = x, gram = in.gram;
  if (!from_norm && in.site->kind != SiteKind::kPatchEmbedding) side = fit_side(x, in, recipe);
  if (!side.channels.empty()) {
    const auto index = at::tensor(side.channels, at::kLong);
    rows = rows.index_fill(1, index, 0.0);
    gram = gram.index_fill(0, index, 0.0).index_fill_(1, index, 0.0);
  }
  const InputQuantizer whole = fit_per_tensor(rows, gram, in, recipe, centred);
  if (granularity != InputGranularity::kAuto || !side.channels.empty() ||
      whole.form != CodeForm::kUniform) {
    return whole;
  }
  const InputQuantizer channelwise = fit_per_channel(rows, in, recipe.norm, centred);
  const double ratio = joint_error(rows, in, channelwise, recipe.weights) /
                       joint_error(rows, in, whole, recipe.weights);
  choice = describe_choice(ratio);
  return ratio < 1.0 ? channelwise : whole;
}

ChannelFold fold_of(const InputQuantizer& quantizer) {
  if (!quantizer.per_channel()) {
    return {at::ones({1}, at::kFloat), at::zeros({1}, at::kFloat)};
  }
  return {(quantizer.multiplier * quantizer.scale).reciprocal(),
          (static_cast<double>(quantizer.zero_point) - quantizer.offset) * quantizer.scale};
}

FoldedLinear folded_linear(const at::Tensor& weight, const at::Tensor& bias,
                           const ChannelFold& fold) {
  FoldedLinear folded;
  folded.weight = (weight * fold.ratio).contiguous();
  folded.bias = bias.defined() ? bias.clone() : at::zeros({weight.size(0)}, at::kFloat);
  if (fold.shift.numel() > 1) folded.bias += at::mv(folded.weight, fold.shift);
  return folded;
}

LinearPlan fit_linear(const LinearFitInput& in, const Recipe& whole, std::string& note) {
  for (const auto& batch : in.x) require_finite(batch, in.site->path);
  if (in.activation_bits == 16) return fit_weight_only(in, whole, note);
  Recipe recipe = whole;
  recipe.weights.group_size = 0;  // an integer product has one scale for each row

  LinearPlan plan;
  std::string choice;
  const at::Tensor x = rows_of(in.x);
  plan.input = fit_input(x, in, recipe, plan.side, choice);
  const auto folded = folded_linear(in.site->weight, in.site->bias, fold_of(plan.input));
  WeightProblem problem;
  problem.weight = folded.weight;
  problem.bias = folded.bias;
  problem.codes = product_codes(encode(x, plan.input), plan.input);
  problem.codes.sub_(static_cast<double>(plan.input.zero_point));
  if (!plan.side.channels.empty()) {
    const auto index = at::tensor(plan.side.channels, at::kLong);
    problem.codes.index_fill_(1, index, 0.0);
    problem.weight.index_fill_(1, index, 0.0);
    problem.side = side_output(x, plan.side);
  }
  problem.target = target_of(x, in, recipe.weights);
  problem.scale = plan.input.scale;
  problem.row_weights = in.row_weights;
  problem.bits = in.weight_bits;
  problem.threads = in.threads;
  FittedWeight fitted = fit_weight(problem, recipe.weights);
  plan.weight = std::move(fitted.weight);
  plan.bias = std::move(fitted.bias);
  note = describe_linear(plan) + choice;
  if (fitted.compensation > 0) {
    note += "; compensation " + format_number(fitted.compensation, 2);
  }
  return plan;
}

std::string describe_linear(const LinearPlan& plan) {
  std::ostringstream text;
  if (!plan.quantized_input) {
    text << "weight only; ";
    if (plan.weight.group_size > 0) text << "groups of " << plan.weight.group_size << "; ";
    text << plan.weight.outcome;
    return text.str();
  }
  const auto& input = plan.input;
  text << (input.per_channel() ? "per channel" : "per tensor");
  if (input.form == CodeForm::kQuadratic) text << ", quadratic";
  if (!plan.side.channels.empty()) text << ", " << plan.side.channels.size() << " side column(s)";
  text << "; " << plan.weight.outcome;
  return text.str();
}

}  // namespace repquant
