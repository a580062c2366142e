#include "fit/convolution.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/text_table.h"
#include "fit/linear.h"
#include "repquant/error.h"
#include "tensor/parallel.h"

namespace repquant {
namespace {

// Of all batches; fewer where there are so many channels that they would fill the memory.
constexpr std::int64_t kMostRows = 4096;
constexpr std::int64_t kFewestRows = 256;
constexpr std::int64_t kMostElements = std::int64_t{1} << 25;

std::int64_t rows_of_each_batch(const GroupedConvolutionSite& site, std::size_t batches) {
  const std::int64_t elements = site.weight[0].numel() * site.shape.groups;  // of all windows
  const std::int64_t rows = std::clamp(kMostElements / elements, kFewestRows, kMostRows);
  const auto count = std::max<std::int64_t>(1, static_cast<std::int64_t>(batches));
  return (rows + count - 1) / count;
}

/// Sampled windows of all batches, [rows, C, kernel elements].
at::Tensor windows_of(const RowSource::Read& read, const ConvolutionProblem& problem) {
  const std::int64_t rows = rows_of_each_batch(*problem.site, problem.values.batches);
  std::vector<at::Tensor> parts(problem.values.batches);
  parallel_for(std::ssize(parts), problem.threads, [&](std::int64_t i) {
    const auto batch = static_cast<std::size_t>(i);
    parts[batch] = sample_windows(read(batch), problem.site->shape, rows);
  });
  return at::cat(parts);
}

/// The rows [rows, K] of one group.
at::Tensor rows_of_group(const at::Tensor& windows, std::int64_t group, std::int64_t channels) {
  return windows.narrow(1, group * channels, channels).flatten(1).contiguous();
}

LinearPlan fit_group(const ConvolutionProblem& problem, const Recipe& recipe, std::int64_t group,
                     const at::Tensor& windows, const at::Tensor& float_windows) {
  const GroupedConvolutionSite& site = *problem.site;
  const std::int64_t outputs = site.weight.size(0) / site.shape.groups;
  const std::int64_t channels = site.weight.size(1);
  LinearSite linear;
  linear.weight = site.weight.narrow(0, group * outputs, outputs).flatten(1).contiguous();
  if (site.bias.defined()) linear.bias = site.bias.narrow(0, group * outputs, outputs);
  linear.keeps_zeros = site.keeps_zeros;
  LinearProblem own;
  own.path = problem.path;
  own.site = &linear;
  own.rows = rows_in_memory({rows_of_group(windows, group, channels)});
  if (float_windows.defined()) {
    at::Tensor rows = rows_of_group(float_windows, group, channels);
    own.rows.x_float = [rows](std::size_t) { return rows; };
  }
  own.readers = {{.weight = linear.weight, .counts = {}}};
  own.one_grid = true;
  own.weight_bits = problem.weight_bits;
  own.activation_bits = problem.activation_bits;
  std::string ignored;
  return fit_linear(own, recipe, ignored);
}

/// The grids of the groups, spread over their channels: [C, 1..].
OperandQuantizer grids_of(const std::vector<LinearPlan>& groups,
                          const GroupedConvolutionSite& site) {
  std::vector<double> scales, zeros;
  for (const LinearPlan& group : groups) {
    scales.push_back(group.input.scale);
    zeros.push_back(group.input.zero_point);
  }
  std::vector<std::int64_t> sizes(site.shape.kernel.size() + 1, 1);
  sizes[0] = site.shape.groups * site.weight.size(1);
  const auto spread = [&](const std::vector<double>& values) {
    return at::tensor(values, at::kDouble)
        .repeat_interleave(site.weight.size(1))
        .to(at::kFloat)
        .view(sizes);
  };
  OperandQuantizer grids;
  grids.bits = groups.front().input.bits;
  grids.scale = spread(scales);
  grids.multiplier = grids.scale.reciprocal();
  grids.zero_point = spread(zeros);
  return grids;
}

QuantizedWeight weights_of(const std::vector<LinearPlan>& groups) {
  QuantizedWeight weight = groups.front().weight;
  std::vector<at::Tensor> codes, scales;
  weight.error_rtn = weight.error_gptq = 0.0;
  for (const LinearPlan& group : groups) {
    codes.push_back(group.weight.codes);
    scales.push_back(group.weight.scale);
    weight.error_rtn += group.weight.error_rtn;
    weight.error_gptq += group.weight.error_gptq;
    if (group.weight.outcome != weight.outcome) weight.outcome = "gptq, not in all groups";
  }
  weight.codes = at::cat(codes);
  weight.scale = at::cat(scales);
  return weight;
}

}  // namespace

at::Tensor sample_windows(const at::Tensor& x, const ConvolutionShape& shape, std::int64_t rows) {
  const auto dimensions = static_cast<std::int64_t>(shape.kernel.size());
  std::vector<std::int64_t> pad;
  for (std::size_t d = shape.kernel.size(); d-- > 0;) {
    pad.insert(pad.end(), {shape.padding[d], shape.padding[d]});
  }
  at::Tensor windows = at::constant_pad_nd(x, pad, 0);  // [B, C, grid.., kernel..] in the end
  for (std::int64_t d = 0; d < dimensions; ++d) {
    const auto i = static_cast<std::size_t>(d);
    const std::int64_t reach = shape.dilation[i] * (shape.kernel[i] - 1) + 1;
    if (windows.size(d + 2) < reach) return at::empty({0, x.size(1), 1}, x.options());
    windows = windows.unfold(d + 2, reach, shape.stride[i]).slice(-1, 0, reach, shape.dilation[i]);
  }
  std::int64_t positions = windows.size(0);
  for (std::int64_t d = 0; d < dimensions; ++d) positions *= windows.size(d + 2);
  const std::int64_t taken = std::min(rows, positions);
  // One in each of `taken` parts of about equal length, never twice in a row at the same place of
  // its part: a step could be a multiple of an image's width.
  constexpr std::int64_t kGoldenRatio = 40503, kPlaces = 65536;
  const at::Tensor parts = at::arange(taken, at::kLong);
  at::Tensor place = (parts * kPlaces + (parts * kGoldenRatio).remainder(kPlaces))
                         .mul_(positions)
                         .floor_divide_(std::max<std::int64_t>(1, kPlaces * taken));
  windows = windows.movedim(1, dimensions + 1);  // [B, grid.., C, kernel..]
  c10::List<std::optional<at::Tensor>> index;
  std::vector<at::Tensor> axes(static_cast<std::size_t>(dimensions) + 1);
  for (std::int64_t d = dimensions; d >= 0; --d) {
    axes[static_cast<std::size_t>(d)] = place.remainder(windows.size(d));
    place = place.floor_divide(windows.size(d));
  }
  for (const at::Tensor& axis : axes) index.push_back(axis);
  return at::index(windows, index).flatten(2);
}

GroupedConvolutionPlan fit_convolution(const ConvolutionProblem& problem, const Recipe& given,
                                       std::string& note) {
  Recipe recipe = given;
  // Rows of windows have no scale of their own, and none is a token.
  recipe.input.granularity = InputGranularity::kPerTensor;
  recipe.weights.codebook = false;  // one for all groups would have to suit them all
  recipe.weights.group_size = 0;    // a channel has one scale
  const GroupedConvolutionSite& site = *problem.site;
  const at::Tensor windows = windows_of(problem.values.x, problem);
  if (windows.size(0) == 0) {
    throw Error(ErrorKind::kNumerical,
                {.what = "no calibration sample reaches a convolution", .where = problem.path});
  }
  at::Tensor float_windows;
  if (problem.values.x_float) float_windows = windows_of(problem.values.x_float, problem);
  std::vector<LinearPlan> groups(static_cast<std::size_t>(site.shape.groups));
  parallel_for(std::ssize(groups), problem.threads, [&](std::int64_t g) {
    groups[static_cast<std::size_t>(g)] = fit_group(problem, recipe, g, windows, float_windows);
  });
  GroupedConvolutionPlan plan;
  plan.quantized_input = groups.front().quantized_input;
  plan.weight = weights_of(groups);
  std::vector<at::Tensor> biases;
  for (const LinearPlan& group : groups) biases.push_back(group.bias);
  plan.bias = at::cat(biases);
  plan.shape = site.shape;
  if (plan.quantized_input) plan.input = grids_of(groups, site);
  note = (plan.quantized_input ? std::string("per group; ") : std::string("weight only; ")) +
         plan.weight.outcome + "; " + counted(windows.size(0), "window");
  return plan;
}

}  // namespace repquant
