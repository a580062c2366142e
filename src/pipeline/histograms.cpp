#include "pipeline/histograms.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <map>
#include <string>
#include <utility>

#include "base/overloaded.h"
#include "fit/plan_hook.h"
#include "graph/walker.h"
#include "plan/simulate.h"

namespace repquant {
namespace {

using torch::jit::Node;

constexpr std::size_t kSites = 4;
constexpr std::int64_t kBins = 64;

/// What a site reads through a grid. The ends broadcast against the values; what lies between them
/// rounds to a code of the grid.
struct Operand {
  std::string name;
  std::int64_t channels = -1;  // axis of the channels
  at::Tensor values;           // float32
  at::Tensor quantized;        // the same in floating point
  at::Tensor lower{}, upper{};
};

Operand operand_of(const LinearPlan& plan, const at::Tensor& x) {
  const InputQuantizer& grid = plan.input;
  const at::Tensor values = x.to(at::kFloat);
  Operand operand{.name = "input", .values = values, .quantized = fake_quantize(values, grid)};
  if (grid.per_token) {  // nothing lies beyond a token's own range
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    operand.lower = at::full({1}, -kInfinity);
    operand.upper = at::full({1}, kInfinity);
    return operand;
  }
  const auto codes = static_cast<double>(grid.max_code());
  const double top = grid.form == CodeForm::kQuadratic ? codes * codes : codes;
  operand.lower = (-0.5 - grid.offset) / grid.multiplier;
  operand.upper = (top + 0.5 - grid.offset) / grid.multiplier;
  if (const SideColumns& side = plan.side; !side.channels.empty()) {
    const at::Tensor index = at::tensor(side.channels, at::kLong);
    const double side_top = static_cast<double>((std::int64_t{1} << side.bits) - 1);
    const std::int64_t width = values.size(-1);
    operand.lower =
        operand.lower.expand({width}).index_copy(0, index, side.scale * (-0.5 - side.zero_point));
    operand.upper = operand.upper.expand({width}).index_copy(
        0, index, side.scale * (side_top + 0.5 - side.zero_point));
    // Eight bits of their own: not where an error comes from.
    operand.quantized = operand.quantized.index_copy(-1, index, values.index_select(-1, index));
  }
  return operand;
}

Operand operand_of(std::string name, std::int64_t channels, const OperandQuantizer& grid,
                   const at::Tensor& x) {
  const at::Tensor values = x.to(at::kFloat);
  const auto top = static_cast<double>(grid.max_code());
  return {.name = std::move(name),
          .channels = channels,
          .values = values,
          .quantized = fake_quantize(values, grid),
          .lower = grid.scale * (-0.5 - grid.zero_point),
          .upper = grid.scale * (top + 0.5 - grid.zero_point)};
}

/// Without those that have no grid of values: weights only, tables, the softmax.
std::vector<Operand> operands_of(const SitePlan& plan, const Node* node, const Values& values) {
  using Operands = std::vector<Operand>;
  const auto input = [&](std::size_t i) { return values.at(node->input(i)).toTensor(); };
  return std::visit(
      Overloaded{[&](const LinearPlan& linear) {
                   return linear.quantized_input ? Operands{operand_of(linear, input(0))}
                                                 : Operands{};
                 },
                 [&](const ScoresPlan& scores) {
                   if (scores.left.per_token) return Operands{};  // no grid of all values
                   return Operands{operand_of("left", -1, scores.left, input(0)),
                                   operand_of("right", -2, scores.right, input(1))};
                 },
                 [&](const AttendPlan& attend) {
                   return Operands{operand_of("value", -1, attend.value, input(1))};
                 },
                 [&](const GroupedConvolutionPlan& convolution) {
                   if (!convolution.quantized_input) return Operands{};
                   const OperandQuantizer& grid = convolution.input;
                   return Operands{operand_of("input", -grid.scale.dim(), grid, input(0))};
                 },
                 [](const EmbeddingPlan&) { return Operands{}; }},
      plan.plan);
}

std::vector<double> shares_of(const at::Tensor& values, double lower, double upper) {
  const at::Tensor counts = at::histc(values, kBins, lower, upper).to(at::kDouble);
  const at::Tensor shares = counts / static_cast<double>(values.numel());
  return {shares.data_ptr<double>(), shares.data_ptr<double>() + kBins};
}

/// Fills in all but the names; without bins where no value is finite.
InputHistogram histogram_of(const at::Tensor& values, const at::Tensor& lower,
                            const at::Tensor& upper) {
  InputHistogram histogram;
  const at::Tensor clipped = at::clamp(values, lower, upper);
  const at::Tensor finite = at::isfinite(values);
  const at::Tensor before = values.masked_select(finite), after = clipped.masked_select(finite);
  if (before.numel() == 0) return histogram;
  histogram.lower = before.min().item<double>();
  histogram.upper = before.max().item<double>();
  if (histogram.upper <= histogram.lower) {
    histogram.lower -= 0.5;
    histogram.upper += 0.5;
  }
  histogram.before = shares_of(before, histogram.lower, histogram.upper);
  // A grid may lie beyond all values, and clipping then moves them there.
  histogram.after = shares_of(at::clamp(after, histogram.lower, histogram.upper), histogram.lower,
                              histogram.upper);
  histogram.clipped = before.ne(after).to(at::kDouble).mean().item<double>();
  if (lower.numel() == 1 && at::isfinite(lower).item<bool>()) {
    histogram.grid = {lower.item<double>(), upper.item<double>()};
  }
  return histogram;
}

/// The channel whose values the grid changes most.
std::int64_t worst_channel(const Operand& operand) {
  const at::Tensor error = at::nan_to_num(operand.values - operand.quantized, 0.0, 0.0, 0.0);
  const at::Tensor by_channel = error.square().movedim(operand.channels, 0).flatten(1).sum(1);
  return by_channel.argmax().item<std::int64_t>();
}

/// The ends of one channel's grid.
at::Tensor of_channel(const at::Tensor& ends, std::int64_t axis, std::int64_t channel) {
  const bool own = ends.dim() >= -axis && ends.size(axis) > 1;
  return own ? ends.narrow(axis, channel, 1) : ends;
}

std::vector<InputHistogram> histograms_of(const std::string& path, const Operand& operand) {
  std::vector<InputHistogram> histograms;
  const auto add = [&](InputHistogram histogram, std::optional<std::int64_t> channel) {
    if (histogram.before.empty()) return;
    histogram.path = path;
    histogram.operand = operand.name;
    histogram.channel = channel;
    histograms.push_back(std::move(histogram));
  };
  add(histogram_of(operand.values, operand.lower, operand.upper), std::nullopt);
  if (histograms.empty()) return histograms;
  const std::int64_t axis = operand.channels, channel = worst_channel(operand);
  add(histogram_of(operand.values.narrow(axis, channel, 1),
                   of_channel(operand.lower, axis, channel),
                   of_channel(operand.upper, axis, channel)),
      channel);
  return histograms;
}

void append(std::vector<InputHistogram>& all, std::vector<InputHistogram> more) {
  std::move(more.begin(), more.end(), std::back_inserter(all));
}

struct Planned {
  const Site* site = nullptr;
  const SitePlan* plan = nullptr;
};

/// The sites that add most, the worst first.
std::vector<Planned> worst_sites(const std::vector<Site>& sites,
                                 const std::vector<SitePlan>& plans) {
  const std::vector<const Site*> planned = sites_of(sites, plans);
  std::vector<Planned> worst;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    if (!is_lookup(*planned[i])) worst.push_back({planned[i], &plans[i]});
  }
  std::stable_sort(worst.begin(), worst.end(), [](const Planned& a, const Planned& b) {
    return a.plan->errors.own_output_sqnr_db < b.plan->errors.own_output_sqnr_db;
  });
  if (worst.size() > kSites) worst.resize(kSites);
  return worst;
}

}  // namespace

std::vector<InputHistogram> input_histograms(const Model& model, const SiteSearch& search,
                                             const std::vector<SitePlan>& plans,
                                             const std::vector<at::Tensor>& batch) {
  const at::NoGradGuard no_grad;
  const std::vector<Planned> worst = worst_sites(search.sites, plans);
  std::map<const Node*, std::size_t> rank_of;
  for (std::size_t i = 0; i < worst.size(); ++i) rank_of[worst[i].site->node] = i;
  std::vector<std::vector<InputHistogram>> found(worst.size());
  const PlanHook simulate = plan_hook(search.sites, plans);
  run_graph(*model.graph, Schedule(*model.graph), copies_of(batch),
            [&](const Node* node, Values& values) {
              if (const auto at = rank_of.find(node); at != rank_of.end()) {
                const SitePlan& plan = *worst[at->second].plan;
                for (const Operand& operand : operands_of(plan, node, values)) {
                  append(found[at->second], histograms_of(plan.path, operand));
                }
              }
              return simulate(node, values);
            });
  std::vector<InputHistogram> histograms;
  for (auto& of_site : found) append(histograms, std::move(of_site));
  return histograms;
}

}  // namespace repquant
