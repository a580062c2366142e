// Log likelihoods of token ids under a language model, as pure functions in double.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

#include "data/dataset.h"
#include "evaluate/metrics.h"

namespace repquant {

/// Which ids of a batch count: positions with a 1 are predicted by the position before.
struct TokenTargets {
  at::Tensor ids;      // int64 [B, T]
  at::Tensor counted;  // bool [B, T]; never in column 0
};

/// Throws Error kUsage unless the data's array named input_ids, else its first one, is integers of
/// one dimension in each sample.
void require_token_ids(const Dataset& dataset);

/// The targets of a batch. Of a stream of ids these are `Dataset::targets()`; of rows of ids, the
/// positions whose attention mask, if there is one, is not 0 there and before. The ids are the
/// array named input_ids, else the first one. Throws Error kUsage if they are not integers [B, T].
TokenTargets token_targets(const Batch& batch, const Dataset& dataset,
                           std::span<const std::int64_t> indices);

/// Sums over windows; each window is a cluster of dependent predictions.
struct PerplexitySums {
  ClusterMean nll;         // nats
  ClusterMean difference;  // of nll, model minus reference
  ClusterMean kl;          // nats
  ClusterMean same_top1;   // 0 or 1
  Energies logits;
};

/// Adds a batch: logits [B, T, V], and those of the reference for comparison or nullptr.
/// Throws Error kUsage for logits of another shape and ids outside of the vocabulary.
void add_predictions(const at::Tensor& logits, const at::Tensor* reference,
                     const TokenTargets& targets, PerplexitySums& sums);

/// `words`: how many the text of all predictions has; 0: not known.
Perplexity summarize_perplexity(const PerplexitySums& sums, std::int64_t words, bool compared);

Agreement summarize_agreement(const PerplexitySums& sums);

/// A number of words as typed, or counted in a text file: runs of other than ASCII white space.
/// 0 for an empty `text`. Throws Error kUsage or kFile.
std::int64_t count_words(const std::string& text);

}  // namespace repquant
