#include "fit/fit_linear.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "base/text_table.h"
#include "fit/fit_input.h"
#include "fit/fit_weight.h"
#include "fit/rows.h"
#include "gptq/gptq.h"
#include "gptq/hessian.h"
#include "plan/simulate.h"
#include "repquant/error.h"
#include "tensor/parallel.h"

namespace repquant {
namespace {

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
    target.slice(0, from, to)
        .copy_(at::linear(input.slice(0, from, to), in.site->weight, in.site->bias));
  });
  if (stream && !in.residual_error.empty()) target.add_(rows_of(in.residual_error));
  return target;
}

LinearPlan fit_weight_only(const LinearFitInput& in, const Recipe& recipe) {
  at::Tensor hessian, mean;
  {  // the sums are not needed beside them
    auto sums = accumulate_hessian(in.x, in.threads);
    hessian = recipe.weights.bias_correction ? sums.centred_hessian() : sums.hessian();
    mean = sums.mean();
  }
  return fit_weight_only(in, hessian, mean, recipe);
}

}  // namespace

void require_finite(const at::Tensor& x, const std::string& path) {
  // The sum is finite exactly if all values are (no float32 activation sum overflows a double).
  if (std::isfinite(at::sum(x, at::kDouble).item<double>())) return;
  throw Error(ErrorKind::kNumerical,
              {.what = "the input of a site holds NaN or infinite values",
               .where = path,
               .hint = "check the calibration data and that the model runs in float32"});
}

std::string describe(const LinearPlan& plan) {
  std::ostringstream text;
  if (!plan.quantized_input) {
    text << "weight only; ";
    if (plan.weight.group_size > 0) text << "groups of " << plan.weight.group_size << "; ";
    text << plan.weight.outcome;
    return text.str();
  }
  const auto& input = plan.input;
  text << (input.per_token ? "per token" : input.per_channel() ? "per channel" : "per tensor");
  if (input.form == CodeForm::kQuadratic) text << ", quadratic";
  if (!plan.side.channels.empty()) text << ", " << plan.side.channels.size() << " side column(s)";
  text << "; " << plan.weight.outcome;
  return text.str();
}

at::Tensor side_output(const at::Tensor& x, const SideColumns& side) {
  const at::Tensor columns = (encode_side(x, side) - side.zero_point) * side.scale;
  return at::matmul(columns, side.weight.dequantize().t());
}

LinearPlan fit_weight_only(const LinearFitInput& in, const at::Tensor& hessian,
                           const at::Tensor& mean, const Recipe& recipe) {
  LinearPlan plan;
  plan.quantized_input = false;
  plan.weight = in.rounded != nullptr ? *in.rounded
                                      : quantize_weight(in.site->weight.contiguous(), hessian,
                                                        in.weight_bits, recipe.weights, in.threads);
  plan.bias = in.site->bias.defined() ? in.site->bias.clone()
                                      : at::zeros({in.site->weight.size(0)}, at::kFloat);
  if (recipe.weights.bias_correction) {
    const auto change = in.site->weight - plan.weight.dequantize();
    plan.bias += at::mv(change.to(at::kDouble), mean).to(at::kFloat);
  }
  return plan;
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

LinearPlan fit_linear(const LinearFitInput& in, const Recipe& recipe, std::string& note) {
  for (const auto& batch : in.x) require_finite(batch, in.site->path);
  if (in.activation_bits == kWeightOnlyBits) {
    LinearPlan plan = fit_weight_only(in, recipe);
    note = describe(plan);
    return plan;
  }
  Recipe rowwise = recipe;
  rowwise.weights.group_size = 0;  // an integer product has one scale for each row

  LinearPlan plan;
  const at::Tensor x = rows_of(in.x);
  FittedInput input = fit_input(x, in, rowwise);
  plan.input = std::move(input.quantizer);
  plan.side = std::move(input.side);
  const auto folded = folded_linear(in.site->weight, in.site->bias, fold_of(plan.input));
  WeightProblem problem;
  problem.weight = folded.weight;
  problem.bias = folded.bias;
  problem.codes = product_input(x, plan.input);
  if (!plan.side.channels.empty()) {
    problem.codes = without_channels(problem.codes, plan.side.channels);
    problem.weight = without_channels(problem.weight, plan.side.channels);
    problem.side = side_output(x, plan.side);
  }
  problem.target = target_of(x, in, rowwise.weights);
  problem.scale = plan.input.scale;
  problem.row_weights = in.row_weights;
  problem.rounded = in.rounded;
  problem.bits = in.weight_bits;
  problem.threads = in.threads;
  FittedWeight fitted = fit_weight(problem, rowwise.weights);
  plan.weight = std::move(fitted.weight);
  plan.bias = std::move(fitted.bias);
  note = describe(plan) + input.note;
  if (fitted.compensation > 0) {
    note += "; compensation " + format_number(fitted.compensation, 2);
  }
  return plan;
}

}  // namespace repquant
