#include "artifact/min_max_plans.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "graph/walker.h"
#include "plan/simulate.h"

namespace repquant::testing {
namespace {

struct Grid {
  at::Tensor scale, zero_point;
};

Grid grid_of(const at::Tensor& low, const at::Tensor& high, double levels) {
  const at::Tensor lower = low.clamp_max(0.0), upper = high.clamp_min(1e-3);
  const at::Tensor scale = (upper - lower) / levels;
  return {scale, at::round(-lower / scale).clamp(0.0, levels)};
}

QuantizedWeight nearest(const at::Tensor& weight, int bits) {
  const double top = static_cast<double>((1 << (bits - 1)) - 1);
  QuantizedWeight result;
  result.bits = bits;
  result.scale = (weight.abs().amax({1}) / top).clamp_min(1e-8);
  result.codes = at::round(weight / result.scale.unsqueeze(1)).clamp(-top, top).to(at::kChar);
  result.outcome = "nearest";
  return result;
}

LinearPlan linear_plan(const std::string& path, const LinearSite& site, const at::Tensor& x,
                       const MinMaxOptions& options) {
  LinearPlan plan;
  const std::int64_t columns = site.weight.size(1);
  plan.bias = site.bias.defined() ? site.bias.clone() : at::zeros({site.weight.size(0)});
  if (options.weight_only) {
    plan.quantized_input = false;
    plan.weight = nearest(site.weight, options.weight_bits);
    return plan;
  }
  plan.input.bits = site.of_patches ? 8 : options.activation_bits;
  const auto levels = static_cast<double>(plan.input.max_code());
  at::Tensor weight = site.weight.clone();
  const at::Tensor rows = x.reshape({-1, columns});
  if (options.side_columns_at == path) {
    plan.side.channels = {0, 2};
    const at::Tensor index = at::tensor(plan.side.channels);
    const at::Tensor part = rows.index_select(1, index);
    const Grid grid = grid_of(part.amin({0}), part.amax({0}), 255.0);
    plan.side.scale = grid.scale;
    plan.side.zero_point = grid.zero_point;
    plan.side.weight = nearest(weight.index_select(1, index), 8);
    weight.index_fill_(1, index, 0.0);
  }
  if (options.per_token_inputs) {
    plan.input = per_token_quantizer(plan.input.bits);
    if (options.group_size < columns) plan.input.group_size = options.group_size;
    if (options.per_token_scale && site.norm == nullptr) {
      plan.input.multiplier = at::linspace(0.5, 2.0, columns);
      weight = weight / plan.input.multiplier;
    }
    plan.weight = nearest(weight, options.weight_bits);
    return plan;
  }
  const bool folded = site.norm != nullptr || options.per_channel_inputs;
  if (folded) {
    const Grid grid = grid_of(rows.amin({0}), rows.amax({0}), levels);
    const at::Tensor zero =
        site.scale_only_fold ? at::zeros_like(grid.zero_point) + levels / 2 : grid.zero_point;
    plan.input.multiplier = grid.scale.reciprocal();
    plan.input.offset = at::round(zero);
    plan.input.scale = grid.scale.mean().item<double>();
    plan.input.zero_point =
        static_cast<int>(std::nearbyint(plan.input.offset.mean().item<double>()));
    const at::Tensor shift = grid.scale * (plan.input.zero_point - plan.input.offset);
    plan.bias = plan.bias + at::matmul(weight, shift);
    weight = weight * (grid.scale / plan.input.scale);
  } else {
    const bool quadratic =
        options.quadratic && site.source == InputSource::kGelu && options.activation_bits <= 4;
    plan.input.form = quadratic ? CodeForm::kQuadratic : CodeForm::kUniform;
    const Grid grid =
        grid_of(rows.amin().view({1}), rows.amax().view({1}), quadratic ? levels * levels : levels);
    plan.input.multiplier = grid.scale.reciprocal();
    plan.input.offset = grid.zero_point;
    plan.input.scale = grid.scale.item<double>();
    plan.input.zero_point = static_cast<int>(grid.zero_point.item<double>());
  }
  plan.weight = nearest(weight, options.weight_bits);
  return plan;
}

OperandQuantizer operand(const at::Tensor& x, int bits) {
  std::vector<std::int64_t> dims;
  for (std::int64_t d = 0; d < x.dim(); ++d) {
    if (x.dim() < 4 || d != x.dim() - 3) dims.push_back(d);
  }
  const bool per_head = x.dim() >= 4;
  const std::vector<std::int64_t> shape =
      per_head ? std::vector<std::int64_t>{x.size(-3), 1, 1} : std::vector<std::int64_t>{1};
  const Grid grid = grid_of(x.amin(dims).reshape(shape), x.amax(dims).reshape(shape),
                            static_cast<double>((1 << bits) - 1));
  return {bits, grid.scale.reciprocal(), grid.scale, grid.zero_point};
}

}  // namespace

std::vector<SitePlan> min_max_plans(const Model& model, const std::vector<Site>& sites,
                                    const std::vector<at::Tensor>& inputs,
                                    const MinMaxOptions& options) {
  at::NoGradGuard no_grad;
  std::map<const torch::jit::Node*, const Site*> by_node;
  for (const auto& site : sites) by_node[site.node] = &site;
  std::vector<SitePlan> plans;
  const Schedule schedule(*model.graph);
  run_graph(
      *model.graph, schedule, {inputs.begin(), inputs.end()},
      [&](const torch::jit::Node* node, Values& values) {
        const auto found = by_node.find(node);
        if (found == by_node.end()) return false;
        const Site& site = *found->second;
        const at::Tensor first = values.at(node->input(0)).toTensor();
        SitePlan plan;
        plan.path = site.path;
        plan.kind = kind_of(site);
        const int bits = options.activation_bits;
        if (const LinearSite* linear = linear_of(site)) {
          plan.plan = linear_plan(site.path, *linear, first, options);
        } else if (is_lookup(site)) {
          plan.plan = EmbeddingPlan{nearest(constant_of(site), 8)};
        } else if (convolution_of(site) != nullptr || !options.attention || options.weight_only) {
          return false;
        } else if (plan.kind == SiteKind::kScores) {
          plan.plan =
              ScoresPlan{operand(first, bits), operand(values.at(node->input(1)).toTensor(), bits)};
        } else {
          AttendPlan attend;
          attend.bits = bits;
          attend.uniform = options.uniform_softmax;
          attend.grid = LogGrid{bits, bits <= 4 ? 2.0 : (bits <= 6 ? 4.0 : 8.0), true, bits > 4};
          attend.row_maximum = options.row_maximum;
          attend.value = operand(values.at(node->input(1)).toTensor(), bits);
          plan.plan = attend;
        }
        plans.push_back(std::move(plan));
        return false;
      });
  return plans;
}

}  // namespace repquant::testing
