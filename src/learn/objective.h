// What learning minimises.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <optional>
#include <vector>

namespace repquant {

/// What a run of a model gives.
struct Results {
  std::vector<at::Tensor> outputs;  // floating-point ones
  std::vector<at::Tensor> ends;     // values at the ends of blocks; undefined: no such tensor
  /// Which rows of an end [.., T, C] count, [.., T, 1] of 0 and 1; without an entry all do.
  std::vector<at::Tensor> used{};
};

/// How far results are from those of the floating-point model.
class Objective {
 public:
  /// `seen`: what the floating-point model gives for some of `samples` samples.
  Objective(const std::vector<Results>& seen, std::size_t samples);

  /// A scalar, undefined where there is nothing to compare: the squared error of the outputs and
  /// that at the ends of blocks, each relative to its variance over rows, mean over tensors; and of
  /// logits (see logits_in()) the KL divergence in nats, mean over rows, times n / (n + 3000) for n
  /// rows in all samples: few rows are soon known by heart.
  at::Tensor operator()(const Results& got, const Results& expected) const;

  /// What is left of it where results are judged: the squared error of the outputs and, of logits,
  /// the whole divergence; without such outputs that at the ends of blocks. 0 where there is
  /// nothing to compare.
  double of_outputs(const Results& got, const Results& expected) const;

 private:
  at::Tensor output_error(const Results& got, const Results& expected, double weight) const;
  static std::vector<double> variances(const std::vector<Results>& seen,
                                       std::vector<at::Tensor> Results::*part);

  std::vector<double> outputs_, ends_;  // variances; 0: nothing was seen
  std::optional<std::size_t> logits_;   // which of the outputs
  double divergence_weight_ = 0.0;
};

}  // namespace repquant
