#include "evaluate/mixed_samples.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <utility>

#include "evaluate/explain_failure.h"
#include "repquant/error.h"
#include "tensor/deviation.h"
#include "tensor/samples.h"

namespace repquant {
namespace {

using Tensors = std::vector<at::Tensor>;

/// Shares of the largest value: what another order of sums makes is far below the one, what hangs
/// on other samples above the other.
constexpr double kRounding = 1e-4, kMixed = 1e-2;

enum class Mixed { kNothing, kWhole, kSample };

/// Whether the last sample has other outputs alone, or only those differ that are of all samples,
/// as averages over what the model takes for tokens. A loss says nothing.
Mixed mixed(const Tensors& alone, const Tensors& together, std::int64_t samples) {
  Mixed result = Mixed::kNothing;
  for (std::size_t i = 0; i < std::min(alone.size(), together.size()); ++i) {
    const at::Tensor& one = alone[i];
    const at::Tensor& all = together[i];
    if (!one.is_floating_point() || !all.is_floating_point() || one.numel() < 2) continue;
    if (one.dim() == 0 || one.dim() != all.dim()) continue;
    if (one.sizes().slice(1) != all.sizes().slice(1)) continue;
    const bool has_samples = one.size(0) == 1 && all.size(0) == samples;
    if (!has_samples && one.size(0) != all.size(0)) continue;
    const at::Tensor expected = has_samples ? all.slice(0, samples - 1) : all;
    if (relative_difference(one, expected) <= kMixed) continue;
    if (has_samples) return Mixed::kSample;
    result = Mixed::kWhole;
  }
  return result;
}

/// Whether the outputs for the last position of the second dimension hang on it alone.
bool has_samples_second(const BatchModel& model, const Tensors& batch, const Tensors& together) {
  const std::int64_t samples = batch.front().dim() < 2 ? 0 : batch.front().size(1);
  Tensors last;
  for (const at::Tensor& input : batch) {
    if (samples < 2 || input.dim() < 2 || input.size(1) != samples) return false;
    last.push_back(input.slice(1, samples - 1).contiguous());
  }
  Tensors alone;
  try {
    alone = model.run(last);
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kResource) throw;
    return false;
  }
  bool compared = false;
  for (std::size_t i = 0; i < std::min(alone.size(), together.size()); ++i) {
    const at::Tensor& all = together[i];
    if (!all.is_floating_point() || all.dim() < 2) continue;
    const std::int64_t axis = all.size(1) == samples ? 1 : 0;  // 0: averaged over the tokens
    if (all.size(axis) != samples) return false;
    const at::Tensor expected = all.slice(axis, samples - 1);
    if (!alone[i].sizes().equals(expected.sizes()) ||
        !(relative_difference(alone[i], expected) <= kRounding))
      return false;
    compared = true;
  }
  return compared;
}

}  // namespace

void check_not_mixed(const BatchModel& model, const Tensors& batch, const Tensors& outputs,
                     const Observer& observer) {
  const at::NoGradGuard no_grad;
  const std::int64_t samples = sample_count(batch);
  if (samples < 2) return;
  // The last one: in a model that looks back, the first does not hang on others.
  const Mixed found = mixed(model.run(samples_of(batch, samples - 1, samples)), outputs, samples);
  if (found == Mixed::kNothing) return;
  if (has_samples_second(model, batch, outputs)) {
    ErrorParts parts = samples_second(model.input_names);
    parts.where = model.path;
    throw Error(ErrorKind::kUsage, std::move(parts));
  }
  if (found == Mixed::kWhole) return;
  observer.warn(
      "the model's outputs for a sample hang on the other samples of its batch: if the data is "
      "right, they change with the batch, before and after quantization");
}

}  // namespace repquant
