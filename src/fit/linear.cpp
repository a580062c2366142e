#include "fit/linear.h"

#include <ATen/ATen.h>

#include <sstream>
#include <utility>
#include <vector>

#include "base/text_table.h"
#include "fit/linear_input.h"
#include "fit/linear_weight.h"
#include "fit/row_sample.h"
#include "fit/rows.h"
#include "fit/weight_sums.h"
#include "plan/simulate.h"

namespace repquant {
namespace {

/// What codes and bias should give, [n, N]: the target (see Compensation) without the side columns.
at::Tensor target_of(const RowBlock& rows, const LinearSite& site, const SideColumns& side,
                     Compensation compensation) {
  const bool stream = compensation == Compensation::kStream && rows.x_float.defined();
  at::Tensor target = at::linear(stream ? rows.x_float : rows.x, site.weight, site.bias);
  if (stream && rows.residual_error.defined()) target.add_(rows.residual_error);
  if (!side.channels.empty()) target.sub_(side_output(rows.x, side));
  return target;
}

/// For the input that the plan has. Of a weight alone the values themselves take the place of
/// codes.
FittedWeight fit_weight(const LinearProblem& problem, const SourceRows& rows,
                        const LinearPlan& plan, const WeightRecipe& given) {
  const WeightRecipe recipe = weight_recipe(given, plan.quantized_input ? &plan.input : nullptr);
  const LinearSite& site = *problem.site;
  const auto folded = folded_linear(site.weight, site.bias, fold_of(plan.input));
  const WeightProblem weight{.weight = without_channels(folded.weight, plan.side.channels),
                             .bias = folded.bias,
                             .scale = plan.input.scale,
                             .rows = &rows,
                             .codes =
                                 [&](const at::Tensor& x) {
                                   if (!plan.quantized_input) return x;
                                   return without_channels(product_input(x, plan.input),
                                                           plan.side.channels);
                                 },
                             .target =
                                 [&](const RowBlock& block) {
                                   return target_of(block, site, plan.side, recipe.compensation);
                                 },
                             .affine_target = plan.side.channels.empty(),
                             .row_weights = problem.row_weights,
                             .threads = problem.threads};
  if (problem.rounded != nullptr) return keep_weight(weight, *problem.rounded, recipe);
  return round_weight(prepare_weight(weight, recipe), problem.weight_bits, problem.threads);
}

/// The grid for all readers of the codes.
FittedInput fit_grid(const LinearProblem& problem, const SourceRows& rows, const Recipe& recipe) {
  if (problem.shared != nullptr) return {.quantizer = *problem.shared, .side = {}, .note = ""};
  // Rows that a router sends here on other data may be anything.
  constexpr std::int64_t kFewRows = 32;
  std::vector<WeightedRows> readers{sample_for_grid(rows, problem.row_weights, problem.threads)};
  for (const ReaderRows& reader : problem.other_readers) {
    const SourceRows other(reader.rows, problem.path, problem.threads);
    readers.push_back(sample_for_grid(other, other.kept_of(reader.row_weights), problem.threads));
  }
  const WeightedRows seen = joined(readers);
  const std::int64_t count = seen.x.size(0);
  if (count < (problem.routed ? kFewRows : 1)) {
    return {.quantizer = per_token_quantizer(problem.activation_bits), .side = {}, .note = ""};
  }
  return fit_linear_input(seen, problem, recipe);
}

/// Which rows there were, where that is not as usual.
std::string describe_rows(const SourceRows& rows, bool routed) {
  std::string text;
  if (rows.size() == 0) {
    text = "; no calibration row reaches it: rounded to nearest";
  } else if (routed) {
    text = "; " + counted(rows.size(), "calibration row");
  }
  if (rows.left_out() > 0) {
    text += "; " + counted(rows.left_out(), "row that is not finite left out",
                           "rows that are not finite left out");
  }
  return text;
}

}  // namespace

std::string describe(const LinearPlan& plan) {
  std::ostringstream text;
  const auto& input = plan.input;
  if (!plan.quantized_input) {
    text << "weight only";
    if (plan.weight.group_size > 0) text << "; groups of " << plan.weight.group_size;
  } else {
    text << (input.per_token ? "per token" : input.per_channel() ? "per channel" : "per tensor");
    if (input.group_size > 0) text << " and " << input.group_size << " columns";
    if (input.levels.defined()) text << ", " << input.levels.numel() << " levels";
    if (input.form == CodeForm::kQuadratic) text << ", quadratic";
  }
  if (!plan.side.channels.empty()) text << ", " << plan.side.channels.size() << " side column(s)";
  text << "; " << plan.weight.outcome;
  if (plan.weight.levels.defined()) text << ", " << plan.weight.levels.numel() << " weight levels";
  return text.str();
}

LinearPlan fit_linear(const LinearProblem& given, const Recipe& recipe, std::string& note) {
  LinearProblem problem = given;
  const SourceRows rows(problem.rows, problem.path, problem.threads);
  problem.row_weights = rows.kept_of(problem.row_weights);
  WeightRecipe weights = recipe.weights;
  if (rows.size() == 0) weights.rounding = WeightRounding::kNearest;
  // A row of zeros (padding, a mask) has to stay one: the norm would blow up what it gets instead.
  if (problem.site->keeps_zeros) weights.bias_correction = false;
  LinearPlan plan;
  plan.quantized_input = problem.activation_bits != kWeightOnlyBits;
  std::string choice;
  if (plan.quantized_input) {
    FittedInput input = fit_grid(problem, rows, recipe);
    plan.input = std::move(input.quantizer);
    plan.side = std::move(input.side);
    choice = std::move(input.note);
  }
  FittedWeight fitted = fit_weight(problem, rows, plan, weights);
  plan.weight = std::move(fitted.weight);
  plan.bias = std::move(fitted.bias);
  note = describe(plan) + choice + describe_rows(rows, problem.routed);
  if (fitted.compensation > 0) note += "; compensation " + format_number(fitted.compensation, 2);
  return plan;
}

}  // namespace repquant
