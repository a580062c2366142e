// Metrics of classification and of agreement with a reference, as pure functions in double.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "evaluate/statistics.h"
#include "repquant/evaluate.h"
#include "tensor/deviation.h"

namespace repquant {

/// Sums over samples; batches are added up in their order.
struct AccuracyCounts {
  std::int64_t samples = 0;
  std::int64_t top1 = 0;
  std::int64_t top5 = 0;
};

struct PairedCounts {
  std::int64_t samples = 0;
  std::int64_t both = 0;    // right in the model and in the reference
  std::int64_t gained = 0;  // right in the model only
  std::int64_t lost = 0;    // right in the reference only
};

struct AgreementSums {
  std::int64_t rows = 0;
  bool ranked = false;  // a row has two values at least
  std::int64_t same_top1 = 0;
  ClusterMean kl;  // nats, each row by itself
  Energies values;
};

AccuracyCounts& operator+=(AccuracyCounts& sum, const AccuracyCounts& part);
PairedCounts& operator+=(PairedCounts& sum, const PairedCounts& part);

/// Counts the samples whose label is among the one and the five largest logits. Of equal logits the
/// one with the lower index ranks first, so a constant output scores no better than chance.
/// logits: [B, C]; labels: B values in [0, C). Throws Error kUsage when they do not fit.
AccuracyCounts count_correct(const at::Tensor& logits, std::span<const std::int64_t> labels);

/// Counts agreement about right and wrong; both [B, C].
PairedCounts count_paired(const at::Tensor& reference, const at::Tensor& logits,
                          std::span<const std::int64_t> labels);

/// Throws Error kUsage unless the outputs have the same shape.
void check_same_shape(const at::Tensor& reference, const at::Tensor& output);

/// Throws Error kNumerical unless the outputs, of one shape, are infinite at the same places with
/// the same signs.
void check_same_infinities(const at::Tensor& reference, const at::Tensor& output);

/// Throws Error kNumerical unless all values are finite: embeddings have a direction.
void require_finite(const at::Tensor& output);

/// Rows of two tensors [.., C] whose largest value is at the same place; of equal ones the first
/// counts.
std::int64_t count_same_top1(const at::Tensor& a, const at::Tensor& b);

/// Compares logits row by row and adds to `sums`; both of the same shape [.., C]. Where both are
/// infinite, as the logits of tokens that are suppressed, the rest is compared.
/// Throws Error kUsage for different shapes, kNumerical for different infinities.
void compare_logits(const at::Tensor& reference, const at::Tensor& logits, AgreementSums& sums);

/// `classes` decides whether top-5 is reported.
Accuracy summarize(const AccuracyCounts& counts, std::int64_t classes);

PairedDifference summarize(const PairedCounts& counts);

Agreement summarize(const AgreementSums& sums);

}  // namespace repquant
