#include "sweep/sensitivity.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/ir/ir.h>

#include <random>

#include "compute/parallel.h"
#include "repquant/error.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// The values whose gradients are wanted, with the axis that holds the channels.
std::unordered_map<const Value*, std::int64_t> wanted_values(const std::vector<Site>& sites) {
  std::unordered_map<const Value*, std::int64_t> wanted;
  for (const auto& site : sites) {
    if (site.weight.defined()) {
      wanted[site.node->output()] = -1;
    } else if (site.kind == SiteKind::kScores) {
      wanted[site.node->input(0)] = -1;
      wanted[site.node->input(1)] = -2;
    } else {
      wanted[site.node->input(1)] = -1;
    }
  }
  return wanted;
}

at::Tensor random_signs(at::IntArrayRef shape, std::mt19937_64& engine) {
  at::Tensor signs = at::empty(shape, at::kFloat);
  float* data = signs.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < signs.numel(); ++i) data[i] = (engine() >> 63) != 0 ? 1.0F : -1.0F;
  return signs;
}

struct Squares {
  at::Tensor tokens;    // float64 [rows]
  at::Tensor channels;  // float64 [N], sums
  double rows = 0;
};

Squares squares_of(const at::Tensor& gradient, std::int64_t channel_axis) {
  at::Tensor square = gradient.to(at::kDouble).square();
  if (channel_axis == -2) square = square.transpose(-2, -1);
  Squares result;
  result.channels = square.flatten(0, -2).sum(0);
  result.rows = static_cast<double>(square.numel()) / static_cast<double>(square.size(-1));
  at::Tensor tokens = square.mean(-1);
  if (gradient.dim() >= 4) tokens = tokens.mean(-2);  // heads
  result.tokens = tokens.flatten().contiguous();
  return result;
}

/// The gradients of one batch, squared; empty where the model cannot be differentiated.
std::unordered_map<const Value*, Squares> run_batch(
    const torch::jit::Graph& graph, const Schedule& schedule, const std::vector<at::Tensor>& batch,
    const std::unordered_map<const Value*, std::int64_t>& wanted, std::uint64_t seed) {
  const at::AutoGradMode with_gradients(true);
  std::vector<const Value*> order;
  std::vector<at::Tensor> seen;
  const NodeHook hook = [&](const Node* node, Values& values) {
    run_node(node, values);
    for (const Value* output : node->outputs()) {
      if (wanted.count(output) == 0) continue;
      at::Tensor value = values.at(output).toTensor();
      // A model whose first site this is has nothing to differentiate yet. The clone is no leaf, so
      // operators that work in place may follow.
      if (!value.requires_grad()) value = value.detach().requires_grad_(true).clone();
      values[output] = value;
      order.push_back(output);
      seen.push_back(value);
    }
    return true;
  };
  std::vector<c10::IValue> inputs;
  for (const auto& tensor : batch) inputs.emplace_back(tensor.clone());
  const auto outputs = output_tensors(run_graph(graph, schedule, inputs, hook));
  std::mt19937_64 engine(seed);
  at::Tensor loss;
  for (const auto& output : outputs) {
    if (!output.is_floating_point() || !output.requires_grad()) continue;
    const at::Tensor part = (output * random_signs(output.sizes(), engine)).sum();
    loss = loss.defined() ? loss + part : part;
  }
  std::unordered_map<const Value*, Squares> result;
  if (!loss.defined() || seen.empty()) return result;
  const auto gradients = torch::autograd::grad({loss}, seen, {}, std::nullopt, false, true);
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (gradients[i].defined()) result[order[i]] = squares_of(gradients[i], wanted.at(order[i]));
  }
  return result;
}

}  // namespace

Sensitivities measure_sensitivity(const torch::jit::Graph& graph, const Schedule& schedule,
                                  const std::vector<Site>& sites,
                                  const std::vector<std::vector<at::Tensor>>& batches, int threads,
                                  const std::function<void()>& check_interrupt) {
  const auto wanted = wanted_values(sites);
  std::vector<std::unordered_map<const Value*, Squares>> parts(batches.size());
  try {
    parallel_for(static_cast<std::int64_t>(batches.size()), threads, [&](std::int64_t i) {
      if (check_interrupt) check_interrupt();
      const auto at = static_cast<std::size_t>(i);
      parts[at] = run_batch(graph, schedule, batches[at], wanted, static_cast<std::uint64_t>(i));
    });
  } catch (const c10::Error&) {
    return {};  // an operator without derivative
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kInterrupted) throw;
    return {};
  }
  Sensitivities result;
  for (const auto& [value, axis] : wanted) {
    Sensitivity sensitivity;
    double rows = 0;
    for (const auto& part : parts) {
      const auto found = part.find(value);
      if (found == part.end()) break;
      const Squares& squares = found->second;
      sensitivity.tokens.push_back(squares.tokens);
      sensitivity.channels = sensitivity.channels.defined()
                                 ? sensitivity.channels + squares.channels
                                 : squares.channels;
      rows += squares.rows;
    }
    if (sensitivity.tokens.size() != batches.size()) continue;
    sensitivity.channels = sensitivity.channels / rows;
    result.emplace(value, std::move(sensitivity));
  }
  return result;
}

at::Tensor row_weights(const Sensitivity* sensitivity, double share) {
  if (sensitivity == nullptr || share == 0) return {};
  const at::Tensor tokens = at::cat(sensitivity->tokens);
  const double mean = tokens.mean().item<double>();
  if (!(mean > 0) || !std::isfinite(mean)) return {};
  return tokens * (share / mean) + (1 - share);
}

}  // namespace repquant
