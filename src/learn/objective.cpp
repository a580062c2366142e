#include "learn/objective.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "graph/results.h"

namespace repquant {
namespace {

// Rows of logits from which on their divergence counts half as much as the rest. ViT-Tiny's 752 of
// 752 images were known by heart: the divergence of others fell less than without it.
constexpr double kRowsOfHalf = 3e3;

/// Sums over the rows of tensors [.., C].
struct Moments {
  at::Tensor sums;  // float64 [C]; undefined where numbers of channels differ
  double squares = 0.0, rows = 0.0, values = 0.0;

  void add(const at::Tensor& tensor) {
    const at::Tensor finite = tensor.to(at::kDouble).nan_to_num(0.0, 0.0, 0.0);
    const at::Tensor all = finite.dim() > 1 ? finite.flatten(0, -2) : finite.reshape({1, -1});
    if (rows == 0.0) {
      sums = all.sum(0);
    } else if (sums.defined()) {
      sums = sums.numel() == all.size(1) ? sums + all.sum(0) : at::Tensor();
    }
    squares += all.square().sum().item<double>();
    rows += static_cast<double>(all.size(0));
    values += static_cast<double>(all.numel());
  }

  /// Mean over channels; of values that hardly vary a thousandth of the mean square.
  double variance() const {
    if (values == 0.0) return 0.0;
    const double square = squares / values;
    const double of_mean = sums.defined() ? (sums / rows).square().mean().item<double>() : 0.0;
    return square - of_mean + 1e-3 * square + 1e-20;
  }
};

at::Tensor mean_error(const std::vector<double>& variances, const std::vector<at::Tensor>& got,
                      const std::vector<at::Tensor>& expected,
                      const std::vector<at::Tensor>& used = {}) {
  at::Tensor sum;
  double count = 0;
  for (std::size_t i = 0; i < std::min(got.size(), variances.size()); ++i) {
    if (!got[i].defined() || !expected[i].defined() || variances[i] == 0.0) continue;
    if (got[i].sizes() != expected[i].sizes() || got[i].numel() == 0) continue;
    // What is not finite in the floating-point model does not count.
    const at::Tensor error = at::where(expected[i].isfinite(), got[i] - expected[i], 0.0);
    at::Tensor square = error.square();
    if (i < used.size() && used[i].defined()) {
      square = square * (used[i] / used[i].mean().clamp_min(1e-6));
    }
    const at::Tensor part = square.mean() / variances[i];
    sum = sum.defined() ? sum + part : part;
    ++count;
  }
  return count > 0 ? sum / count : sum;
}

at::Tensor divergence(const at::Tensor& got, const at::Tensor& expected) {
  const at::Tensor wanted = at::log_softmax(expected.to(at::kFloat), -1);
  const at::Tensor parts = wanted.exp() * (wanted - at::log_softmax(got, -1));
  return at::where(wanted.isfinite(), parts, 0.0).sum(-1).mean();
}

/// Rows [.., C] of all samples behind each other.
at::Tensor rows_of(const std::vector<Results>& seen, std::size_t output) {
  std::vector<at::Tensor> rows;
  for (const Results& results : seen) {
    const at::Tensor& tensor = results.outputs[output];
    if (tensor.dim() < 2 || tensor.size(-1) != seen.front().outputs[output].size(-1)) return {};
    rows.push_back(tensor.flatten(0, -2));
  }
  return at::cat(rows);
}

}  // namespace

Objective::Objective(const std::vector<Results>& seen, std::size_t samples)
    : outputs_(variances(seen, &Results::outputs)), ends_(variances(seen, &Results::ends)) {
  for (std::size_t i = 0; i < outputs_.size() && !logits_; ++i) {
    const at::Tensor rows = rows_of(seen, i);
    if (!rows.defined() || !logits_in({rows}).defined()) continue;
    logits_ = i;
    const double all = static_cast<double>(rows.size(0)) * static_cast<double>(samples) /
                       static_cast<double>(seen.size());
    divergence_weight_ = all / (all + kRowsOfHalf);
  }
}

std::vector<double> Objective::variances(const std::vector<Results>& seen,
                                         std::vector<at::Tensor> Results::*part) {
  std::vector<Moments> moments((seen.front().*part).size());
  for (const Results& results : seen) {
    for (std::size_t i = 0; i < std::min(moments.size(), (results.*part).size()); ++i) {
      if ((results.*part)[i].defined()) moments[i].add((results.*part)[i]);
    }
  }
  std::vector<double> result;
  for (const Moments& each : moments) result.push_back(each.variance());
  return result;
}

at::Tensor Objective::output_error(const Results& got, const Results& expected,
                                   double weight) const {
  at::Tensor error = mean_error(outputs_, got.outputs, expected.outputs);
  if (!logits_) return error;
  const at::Tensor &logits = got.outputs[*logits_], &wanted = expected.outputs[*logits_];
  return logits.sizes() == wanted.sizes() ? error + weight * divergence(logits, wanted) : error;
}

at::Tensor Objective::operator()(const Results& got, const Results& expected) const {
  const at::Tensor outputs = output_error(got, expected, divergence_weight_);
  const at::Tensor ends = mean_error(ends_, got.ends, expected.ends, expected.used);
  if (!outputs.defined() || !ends.defined()) return outputs.defined() ? outputs : ends;
  return outputs + ends;
}

double Objective::of_outputs(const Results& got, const Results& expected) const {
  at::Tensor error = output_error(got, expected, 1.0);
  if (!error.defined()) error = mean_error(ends_, got.ends, expected.ends);
  return error.defined() ? error.item<double>() : 0.0;
}

}  // namespace repquant
