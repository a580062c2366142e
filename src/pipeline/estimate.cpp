#include "pipeline/estimate.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text_table.h"
#include "graph/walker.h"
#include "sweep/fit_streamed.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

constexpr std::int64_t kProbedSamples = 2;

// Fitted to the runs of docs/scaling.md. In units of the probe:
constexpr double kStreamPasses = 4.0;        // FP32 and simulated stream, simulation of each call
constexpr double kSensitivityPasses = 4.0;   // forward twice and backward
constexpr double kLearningPasses = 8.0;      // of one sample in one step
constexpr double kPassesOverValues = 900.0;  // of a Linear's rows by the range searches
constexpr double kPassesOverOperands = 60.0;
constexpr double kSlowness = 3.0;      // of factorizations and the column loop against a product
constexpr double kFixedSeconds = 1.0;  // checks, writing, loading again
constexpr double kFixedBytes = 1e8;    // packed weights, the allocator's slack
constexpr int kTimings = 3;            // the fastest counts: others may be busy

std::vector<c10::IValue> first_samples(const std::vector<at::Tensor>& batch) {
  std::vector<c10::IValue> result;
  for (const auto& tensor : batch) {
    const bool sampled = tensor.dim() > 0 && tensor.size(0) > kProbedSamples;
    result.emplace_back((sampled ? tensor.narrow(0, 0, kProbedSamples) : tensor).clone());
  }
  return result;
}

std::int64_t samples_in(const std::vector<at::Tensor>& batch) {
  return batch.empty() || batch[0].dim() == 0 ? 1 : batch[0].size(0);
}

/// Bytes of the activations that are alive, views counted once.
double alive_bytes(const Values& values) {
  std::unordered_set<const void*> seen;
  double bytes = 0;
  for (const auto& [value, content] : values) {
    const auto kind = value->node()->kind();
    if (kind == c10::prim::Constant || kind == c10::prim::Param || !content.isTensor()) continue;
    const at::Tensor& tensor = content.toTensor();
    if (!tensor.defined() || !tensor.has_storage()) continue;
    if (!seen.insert(tensor.storage().data()).second) continue;
    bytes += static_cast<double>(tensor.storage().nbytes());
  }
  return bytes;
}

/// The sizes that one probed run shows.
struct Probe {
  double seconds = 0;
  double alive = 0;                                // bytes, the largest sum at a site
  std::unordered_map<const Value*, double> sizes;  // of the sites' inputs, elements
};

Probe run_probe(const Model& model, const std::vector<Site>& sites,
                const std::vector<at::Tensor>& batch) {
  Probe probe;
  std::unordered_set<const Node*> stops;
  for (const Site& site : sites) {
    if (site.kind != SiteKind::kAttend) stops.insert(site.node);
  }
  const Schedule schedule(*model.graph);
  run_graph(*model.graph, schedule, first_samples(batch), [&](const Node* node, Values& values) {
    if (stops.count(node) == 0) return false;
    for (const Value* input : node->inputs()) {
      const auto found = values.find(input);
      if (found == values.end() || !found->second.isTensor()) continue;
      probe.sizes[input] = static_cast<double>(found->second.toTensor().numel());
    }
    probe.alive = std::max(probe.alive, alive_bytes(values));
    return false;
  });
  for (int i = 0; i < kTimings; ++i) {
    const auto start = Clock::now();
    run_graph(*model.graph, schedule, first_samples(batch));
    const double seconds = seconds_since(start);
    probe.seconds = i == 0 ? seconds : std::min(probe.seconds, seconds);
  }
  return probe;
}

void add_linear(const Site& site, double rows, WorkTerms& work) {
  constexpr auto kSampled = static_cast<double>(kSampleValues);
  const auto n = static_cast<double>(site.weight.size(0)),
             k = static_cast<double>(site.weight.size(1));
  const double fitted = std::min(rows, kSampled / std::max(n, k));
  work.fitted_values += fitted * (k + n);
  // Two Hessians (with compensation also against the floating-point rows), three factorizations,
  // the column loop.
  work.fitted_macs += rows * k * k * 2 + k * k * k * 2 + n * k * k * 2;
  work.code_bytes += n * k;
  const bool streamed = rows * std::max(n, k) > static_cast<double>(kStreamedValues);
  const double values = streamed ? kSampled : rows * std::max(n, k);
  work.largest_fit_bytes = std::max(work.largest_fit_bytes, 6 * k * k * 8 + 4 * values * 4);
}

}  // namespace

MachineSpeed measure_speed() {
  constexpr std::int64_t kSize = 256, kValues = 1 << 18;
  const at::Tensor matrix = at::ones({kSize, kSize}, at::kDouble), values = at::ones({kValues});
  at::Tensor product = at::mm(matrix, matrix), rounded = at::round(values);  // warm
  MachineSpeed speed;
  for (int i = 0; i < kTimings; ++i) {
    auto start = Clock::now();
    at::mm_out(product, matrix, matrix);
    const double macs = seconds_since(start) / static_cast<double>(kSize * kSize * kSize);
    start = Clock::now();
    at::round_out(rounded, values);
    const double value = seconds_since(start) / static_cast<double>(kValues);
    speed.mac_seconds = i == 0 ? macs : std::min(speed.mac_seconds, macs);
    speed.value_seconds = i == 0 ? value : std::min(speed.value_seconds, value);
  }
  return speed;
}

WorkTerms work_terms(const Model& model, const std::vector<Site>& sites,
                     const std::vector<SiteBits>& bits,
                     const std::vector<std::vector<at::Tensor>>& batches, bool workdir) {
  const at::NoGradGuard no_grad;
  const Probe probe = run_probe(model, sites, batches.front());
  double samples = 0;
  for (const auto& batch : batches) samples += static_cast<double>(samples_in(batch));
  const auto probed = static_cast<double>(std::min(kProbedSamples, samples_in(batches.front())));
  const double times = samples / probed;
  WorkTerms work;
  work.float_seconds = probe.seconds * times;
  work.model_bytes = static_cast<double>(resident_memory_bytes());
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const Site& site = sites[i];
    if (!bits[i].quantized) continue;
    if (site.table.defined()) work.code_bytes += static_cast<double>(site.table.numel());
    if (site.kind == SiteKind::kEmbedding) continue;
    const auto found = probe.sizes.find(site.node->input(0));
    if (site.weight.defined() && found != probe.sizes.end()) {
      const double rows = times * found->second / static_cast<double>(site.weight.size(1));
      add_linear(site, rows, work);
    } else if (site.kind == SiteKind::kScores) {
      for (const Value* operand : {site.node->input(0), site.node->input(1)}) {
        const auto size = probe.sizes.find(operand);
        if (size == probe.sizes.end()) continue;
        work.operand_values += std::min(static_cast<double>(kOperandValues), times * size->second);
      }
    }
  }
  work.alive_bytes = 2 * probe.alive * times;
  if (workdir) {
    work.alive_bytes = std::min(work.alive_bytes, static_cast<double>(SweepOptions{}.spill_bytes));
  }
  return work;
}

Estimate estimate(const WorkTerms& work, const MachineSpeed& speed, const Recipe& recipe,
                  int threads) {
  double passes = kStreamPasses;
  if (recipe.weights.sensitivity > 0) passes += kSensitivityPasses;
  double seconds = passes * work.float_seconds;
  if (!recipe.bits.weight_only()) {
    seconds += speed.value_seconds *
               (kPassesOverValues * work.fitted_values + kPassesOverOperands * work.operand_values);
  }
  seconds += kSlowness * speed.mac_seconds * work.fitted_macs;
  if (recipe.learning.steps > 0 && recipe.calibration.samples > 0) {
    const double one = work.float_seconds / recipe.calibration.samples;
    seconds *= 2;  // on a part of the samples, and on all
    seconds += 2 * kLearningPasses * one * recipe.learning.steps * recipe.learning.samples;
  }
  return {.seconds = kFixedSeconds + seconds / std::max(1, threads),
          .bytes = kFixedBytes + work.model_bytes + work.code_bytes + work.alive_bytes +
                   work.largest_fit_bytes};
}

std::string to_string(const Estimate& estimate) {
  return "about " + format_duration(estimate.seconds) + " and " +
         format_number(estimate.bytes / 1e9, 1) + " GB of memory";
}

}  // namespace repquant
