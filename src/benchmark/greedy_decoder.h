// Text from a language model: the most likely token each time.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "evaluate/loaded_model.h"

namespace repquant {

/// Goes on with texts. A model that gives keys and values back gets them again with each token; of
/// others the whole text is computed anew.
class GreedyDecoder {
 public:
  /// Keeps a reference to `model`, which takes token ids and gives logits [B, T, V] first.
  explicit GreedyDecoder(const LoadedModel& model) : model_(model) {}

  /// Begins with `ids`, int64 [B, T], T > 0, and returns the token behind each row, int64 [B, 1].
  /// Throws Error kUnsupported if the model fails, or gives something else.
  at::Tensor prefill(const at::Tensor& ids);

  /// The token behind `ids`, int64 [B, 1], which follow on what came before. Throws likewise.
  at::Tensor step(const at::Tensor& ids);

 private:
  at::Tensor next(std::vector<at::Tensor> inputs);

  const LoadedModel& model_;
  std::vector<at::Tensor> past_;  // keys and values of all tokens so far
  at::Tensor text_;               // without them: the tokens
};

/// The first `tokens` ids behind the prompts `ids`, int64 [B, T]: [B, tokens].
at::Tensor greedy_text(const LoadedModel& model, const at::Tensor& ids, std::int64_t tokens);

}  // namespace repquant
