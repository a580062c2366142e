#include "fit/site_fit.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/overloaded.h"
#include "base/text_table.h"
#include "fit/attention.h"
#include "fit/convolution.h"
#include "fit/fold_check.h"
#include "fit/linear.h"
#include "fit/residual.h"
#include "fit/rows.h"
#include "fit/shared_weights.h"
#include "gptq/gptq.h"
#include "plan/simulate.h"
#include "repquant/error.h"
#include "tensor/parallel.h"

namespace repquant {
namespace {

using torch::jit::Value;

// Operands with long tails, such as exponentials, have no grid of 8 bits that is worth it.
constexpr double kLeastProductDb = 20.0;

std::vector<bool> present(const std::map<std::size_t, QuantizedWeight>& weights,
                          std::size_t sites) {
  std::vector<bool> result(sites, false);
  for (const auto& [site, weight] : weights) result[site] = true;
  return result;
}

/// What is not finite must not set a grid: another sample stands in for such a one, or zeros, which
/// are on every grid, where there is none.
at::Tensor of_finite_samples(const at::Tensor& x) {
  if (x.dim() < 2) return at::nan_to_num(x, 0.0, 0.0, 0.0);
  const at::Tensor finite = x.isfinite().flatten(1).all(1), index = finite.nonzero().flatten();
  if (index.numel() == 0) return at::nan_to_num(x, 0.0, 0.0, 0.0);
  return x.index_select(0, at::where(finite, at::arange(x.size(0)), index[0]));
}

}  // namespace

SiteFit::SiteFit(const std::vector<Site>& sites, const std::vector<SiteBits>& bits,
                 const Recipe& recipe, const Sensitivities& sensitivities, Streams& streams,
                 const SiteFitOptions& options)
    : sites_(sites),
      bits_(bits),
      recipe_(recipe),
      sensitivities_(sensitivities),
      streams_(streams),
      measure_(sites, sensitivities, recipe.weights, streams),
      options_(options),
      rounded_weights_(round_shared_weights(sites, bits, recipe.weights, options.threads)),
      groups_(group_inputs(sites, bits, present(rounded_weights_, sites.size()))),
      group_of_(group_of_sites(groups_, sites.size())),
      quantized_values_(quantized_values(streams.schedule(), sites)) {}

SitePlan SiteFit::fit(std::size_t i) {
  SitePlan plan;
  plan.path = sites_[i].path;
  plan.kind = kind_of(sites_[i]);
  std::visit([&](const auto& kind) { fit_kind(i, kind, plan); }, sites_[i].kind);
  plan.errors = measure_.errors_of(i, plan);
  return plan;
}

const torch::jit::Node* SiteFit::leave(std::size_t i) {
  if (!group_of_[i]) return nullptr;
  InputGroup& group = groups_[*group_of_[i]];
  std::erase(group.sites, i);
  return std::exchange(group.norm, nullptr);
}

void SiteFit::keep(std::size_t i, const SitePlan& plan) {
  const auto* linear = std::get_if<LinearPlan>(&plan.plan);
  if (linear == nullptr || !group_of_[i]) return;
  if (linear->norm.empty()) groups_[*group_of_[i]].norm = nullptr;  // its fold was not wanted
  if (linear->side.channels.empty()) fitted_.emplace(*group_of_[i], &linear->input);
}

void SiteFit::fit_kind(std::size_t i, const LinearSite& site, SitePlan& plan) {
  LinearProblem problem = problem_of(i, site);
  LinearPlan linear = fit_linear(problem, recipe_, plan.note);
  const auto group = group_of_[i];
  double deviation = 0.0;
  if (group && groups_[*group].norm != nullptr && linear.input.per_channel()) {
    if (problem.shared == nullptr) deviation = fold_deviation_of(groups_[*group], linear.input);
    if (deviation <= options_.largest_fold_deviation) {
      linear.norm = groups_[*group].norm->outputs()[0]->debugName();
      plan.note = kFoldedNote + plan.note;
    } else {  // NaN too
      refused_folds_.emplace(*group, std::exchange(deviation, 0.0));
      groups_[*group].norm = nullptr;
      problem.one_grid = true;
      linear = fit_linear(problem, recipe_, plan.note);
    }
  }
  if (group && refused_folds_.count(*group) > 0) {
    plan.note = "not folded: its norm's readers would change by " +
                format_scientific(refused_folds_.at(*group)) + "; " + plan.note;
  }
  plan.errors.fold_deviation = deviation;
  plan.plan = std::move(linear);
}

LinearProblem SiteFit::problem_of(std::size_t i, const LinearSite& site) const {
  const Value* output = sites_[i].node->output();
  LinearProblem problem;
  problem.path = sites_[i].path;
  problem.site = &site;
  problem.routed = rows_depend_on_data(sites_[i].node->input(0), quantized_values_);
  problem.rows =
      rows_of_site(i, !problem.routed && recipe_.weights.compensation == Compensation::kStream);
  if (!problem.routed) {
    problem.row_weights =
        row_weights(find_sensitivity(sensitivities_, output), recipe_.weights.sensitivity);
  }
  if (const auto rounded = rounded_weights_.find(i); rounded != rounded_weights_.end()) {
    problem.rounded = &rounded->second;
  }
  problem.weight_bits = bits_[i].weight_bits;
  problem.activation_bits = bits_[i].activation_bits;
  problem.threads = options_.threads;
  if (!group_of_[i]) return problem;
  const auto fitted = fitted_.find(*group_of_[i]);
  // A grid per channel is folded into the weight: not into one that stays.
  if (fitted != fitted_.end() && (problem.rounded == nullptr || !fitted->second->per_channel())) {
    problem.shared = fitted->second;
  } else {
    problem.readers = readers_of(sites_, groups_[*group_of_[i]].sites, sensitivities_);
    problem.other_readers = other_readers_of(i);
  }
  return problem;
}

RowSource SiteFit::rows_of_site(std::size_t i, bool with_target) const {
  const auto* node = sites_[i].node;
  const Value* input = node->input(0);
  const auto read = [this](const Value* value, Stream stream) {
    return
        [this, value, stream](std::size_t batch) { return streams_.value(batch, value, stream); };
  };
  RowSource rows;
  rows.batches = streams_.batches();
  rows.x = read(input, Stream::kQuantized);
  if (!with_target) return rows;
  rows.x_float = read(input, Stream::kFloat);
  const Value* residual = residual_of(node, streams_.schedule(), quantized_values_);
  if (residual == nullptr) return rows;
  const std::int64_t outputs = linear_of(sites_[i])->weight.size(0);
  const auto error = [this, input, residual, outputs](std::size_t batch) {
    auto shape = streams_.value(batch, input, Stream::kQuantized).sizes().vec();
    shape.back() = outputs;
    return residual_error(streams_.value(batch, residual, Stream::kFloat),
                          streams_.value(batch, residual, Stream::kQuantized), shape);
  };
  if (error(0).defined()) rows.residual_error = error;
  return rows;
}

/// What others of the group see that do not read what site i does: other tokens of a norm.
std::vector<ReaderRows> SiteFit::other_readers_of(std::size_t i) const {
  std::vector<ReaderRows> others;
  for (const std::size_t other : readers_of_other_rows(sites_, groups_[*group_of_[i]].sites, i)) {
    others.push_back({rows_of_site(other, false),
                      row_weights(find_sensitivity(sensitivities_, sites_[other].node->output()),
                                  recipe_.weights.sensitivity)});
  }
  return others;
}

/// How much this fold changes what any reader of the norm computes, on the first batch.
double SiteFit::fold_deviation_of(const InputGroup& group, const InputQuantizer& quantizer) const {
  double largest = 0.0;
  for (const std::size_t i : group.sites) {
    const auto x = streams_.first_value(sites_[i].node->input(0), Stream::kFloat);
    const double deviation = fold_deviation(std::get<LinearSite>(sites_[i].kind), quantizer, x);
    if (!(deviation <= largest)) largest = deviation;  // NaN stays
  }
  return largest;
}

void SiteFit::fit_kind(std::size_t i, const ScoresSite& site, SitePlan& plan) {
  const auto* node = sites_[i].node;
  const Value *left = node->input(0), *right = node->input(1);
  const auto batches = some_batches(left);
  const ScoresPlan scores = fit_scores(
      values_in(batches, left), values_in(batches, right), site, bits_[i].activation_bits,
      recipe_.attention, may_go_by_token(node, bits_[i].activation_bits, recipe_.attention),
      weights_in(batches, left, -1), weights_in(batches, right, -2));
  if (!site.softmax && bits_[i].activation_bits >= kProductBits) require_rows(scores, left, right);
  plan.note = describe(scores);
  plan.plan = scores;
}

/// Rows count alike, large or small: what comes behind such a product mostly scales each by itself.
/// Of a single column all elements are one row, as of a matrix times a vector.
void SiteFit::require_rows(const ScoresPlan& plan, const Value* left, const Value* right) const {
  const at::Tensor a = streams_.first_value(left, Stream::kQuantized);
  const at::Tensor b = streams_.first_value(right, Stream::kQuantized);
  const at::Tensor exact = at::matmul(a, b);
  const bool column = exact.dim() > 1 && exact.size(-1) == 1;
  const auto energy_of = [&](const at::Tensor& t) { return t.square().sum(column ? -2 : -1); };
  const at::Tensor noise = energy_of(simulate_scores(plan, a, b) - exact);
  const at::Tensor lost = (noise / energy_of(exact)).clamp_max(1.0);
  // Not rows of zeros, such as those of padding, whatever a corrected bias makes of them.
  const at::Tensor wanted = energy_of(at::matmul(streams_.first_value(left, Stream::kFloat),
                                                 streams_.first_value(right, Stream::kFloat)));
  at::Tensor counted = lost.isfinite();
  if (wanted.sizes().equals(lost.sizes())) counted = counted.logical_and(wanted > 0);
  const at::Tensor known = lost.masked_select(counted);
  if (known.numel() == 0) return;
  const double kept = -10.0 * std::log10(std::max(known.mean().item<double>(), 1e-20));
  if (kept >= kLeastProductDb) return;
  throw Error(ErrorKind::kNumerical, {.what = "grids of " + std::to_string(plan.left.bits) +
                                              " bits for its operands would keep only " +
                                              format_number(kept, 1) + " dB of this product"});
}

void SiteFit::fit_kind(std::size_t i, const AttendSite& site, SitePlan& plan) {
  const Value* value = sites_[i].node->input(1);
  const auto batches = some_batches(value);
  const AttendPlan attend =
      fit_attend(values_in(batches, value), site, bits_[i].activation_bits, recipe_.attention,
                 makes_up_for_means(recipe_.weights), weights_in(batches, value, -1));
  plan.note = describe(attend);
  plan.plan = attend;
}

void SiteFit::fit_kind(std::size_t i, const EmbeddingSite& site, SitePlan& plan) {
  WeightRecipe recipe = recipe_.weights;
  // A row is read by itself: there are no errors of other columns to make up for.
  recipe.rounding = WeightRounding::kNearest;
  recipe.group_size = 0;
  recipe.codebook = false;
  EmbeddingPlan embedding{
      quantize_weight(site.table, {}, bits_[i].weight_bits, recipe, options_.threads)};
  plan.plan = std::move(embedding);
}

void SiteFit::fit_kind(std::size_t i, const GroupedConvolutionSite& site, SitePlan& plan) {
  const Value* input = sites_[i].node->input(0);
  ConvolutionProblem problem;
  problem.path = sites_[i].path;
  problem.site = &site;
  problem.values = rows_of_site(i, false);  // what a residual lacks is not made up for
  if (recipe_.weights.compensation == Compensation::kStream) {
    problem.values.x_float = [this, input](std::size_t batch) {
      return streams_.value(batch, input, Stream::kFloat);
    };
  }
  problem.weight_bits = bits_[i].weight_bits;
  problem.activation_bits = bits_[i].activation_bits;
  problem.threads = options_.threads;
  GroupedConvolutionPlan convolution = fit_convolution(problem, recipe_, plan.note);
  plan.plan = std::move(convolution);
}

/// Batches, evenly spaced, that hold as many values of an operand as its fit needs.
std::vector<std::size_t> SiteFit::some_batches(const Value* value) const {
  const std::size_t batches = streams_.batches();
  const std::int64_t size =
      std::max<std::int64_t>(1, streams_.first_value(value, Stream::kQuantized).numel());
  const auto wanted = static_cast<std::size_t>(std::max<std::int64_t>(1, kOperandValues / size));
  const std::size_t stride = (batches + wanted - 1) / wanted;
  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < batches; i += stride) chosen.push_back(i);
  return chosen;
}

std::vector<at::Tensor> SiteFit::values_in(const std::vector<std::size_t>& batches,
                                           const Value* value) const {
  std::vector<at::Tensor> result(batches.size());
  parallel_for(std::ssize(batches), options_.threads, [&](std::int64_t i) {
    const auto k = static_cast<std::size_t>(i);
    result[k] = streams_.value(batches[k], value, Stream::kQuantized);
    if (!is_finite(result[k])) result[k] = of_finite_samples(result[k]);
  });
  return result;
}

at::Tensor SiteFit::weights_in(const std::vector<std::size_t>& batches, const Value* value,
                               std::int64_t axis) const {
  return operand_weights(find_sensitivity(sensitivities_, value),
                         streams_.first_value(value, Stream::kQuantized), axis, batches,
                         recipe_.weights.sensitivity);
}

}  // namespace repquant
