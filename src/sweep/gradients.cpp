#include "sweep/gradients.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <random>

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

at::Tensor random_signs(at::IntArrayRef shape, std::mt19937_64& engine) {
  at::Tensor signs = at::empty(shape, at::kFloat);
  float* data = signs.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < signs.numel(); ++i) data[i] = (engine() >> 63) != 0 ? 1.0F : -1.0F;
  return signs;
}

/// r = sqrt(p) z - p sum(sqrt(p) z) of random signs z: covariance diag(p) - p p^T.
at::Tensor logit_projection(const at::Tensor& logits, std::mt19937_64& engine) {
  const at::Tensor p = at::softmax(logits.detach(), -1);
  const at::Tensor scaled = p.sqrt() * random_signs(logits.sizes(), engine);
  return scaled - p * scaled.sum(-1, /*keepdim=*/true);
}

}  // namespace

Differentiated differentiate(const torch::jit::Graph& graph, const Schedule& schedule,
                             const std::vector<at::Tensor>& batch,
                             const DifferentiateOptions& options) {
  const at::AutoGradMode with_gradients(true);
  Differentiated result;
  std::vector<const Value*> order;
  std::vector<at::Tensor> seen;
  const NodeHook hook = [&](const Node* node, Values& values) {
    run_node(node, values);
    for (const Value* output : node->outputs()) {
      if (options.kept.count(output) > 0) {
        result.kept[output] = values.at(output).toTensor().detach();
      }
      if (options.wanted.count(output) == 0) continue;
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
  for (std::size_t i = 0; i < batch.size() && i < graph.inputs().size(); ++i) {
    if (options.kept.count(graph.inputs()[i]) > 0) result.kept[graph.inputs()[i]] = batch[i];
  }
  const auto outputs = output_tensors(run_graph(graph, schedule, inputs, hook));
  std::mt19937_64 engine(options.seed);
  at::Tensor outputs_sum, logits_sum;
  const auto add = [](at::Tensor& sum, const at::Tensor& part) {
    sum = sum.defined() ? sum + part : part;
  };
  for (const auto& output : outputs) {
    if (!output.is_floating_point()) continue;
    result.outputs.push_back(output.detach());
    if (!output.requires_grad()) continue;
    add(outputs_sum, (output * random_signs(output.sizes(), engine)).sum());
  }
  if (!outputs_sum.defined() || seen.empty()) return result;
  if (options.with_logits) {
    for (const auto& output : outputs) {
      if (!output.is_floating_point() || !output.requires_grad() || output.dim() == 0) continue;
      add(logits_sum, (output * logit_projection(output, engine)).sum());
    }
  }
  const auto backward = [&](const at::Tensor& sum, bool keep, TensorByValue& into) {
    const auto gradients = torch::autograd::grad({sum}, seen, {}, keep, false, true);
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (gradients[i].defined()) into[order[i]] = gradients[i];
    }
  };
  backward(outputs_sum, logits_sum.defined(), result.outputs_gradients);
  if (logits_sum.defined()) backward(logits_sum, false, result.logits_gradients);
  return result;
}

std::int64_t sample_count(const std::vector<at::Tensor>& batch) {
  for (const auto& tensor : batch) {
    if (tensor.dim() == 0 || tensor.size(0) != batch[0].size(0)) return 1;
  }
  return batch.empty() ? 1 : batch[0].size(0);
}

std::vector<at::Tensor> samples_of(const std::vector<at::Tensor>& batch, std::int64_t from,
                                   std::int64_t to) {
  std::vector<at::Tensor> part;
  for (const auto& tensor : batch) part.push_back(tensor.slice(0, from, to));
  return part;
}

void for_each_part(const std::vector<at::Tensor>& batch, std::uint64_t seed,
                   const std::function<void(const std::vector<at::Tensor>&, std::uint64_t)>& run) {
  constexpr std::uint64_t kMostParts = 1024;
  const std::int64_t count = sample_count(batch);
  if (count <= kSamplesAtOnce) return run(batch, seed * kMostParts);
  for (std::int64_t from = 0; from < count; from += kSamplesAtOnce) {
    run(samples_of(batch, from, std::min(count, from + kSamplesAtOnce)),
        seed * kMostParts + static_cast<std::uint64_t>(from));
  }
}

}  // namespace repquant
