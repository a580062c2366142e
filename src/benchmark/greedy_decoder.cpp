#include "benchmark/greedy_decoder.h"

#include <ATen/ATen.h>

#include <iterator>

#include "repquant/error.h"

namespace repquant {

at::Tensor GreedyDecoder::prefill(const at::Tensor& ids) {
  text_ = ids;
  return next(arrange_inputs({.names = {}, .inputs = {ids}, .labels = {}}, model_.signature()));
}

at::Tensor GreedyDecoder::step(const at::Tensor& ids) {
  if (past_.empty()) {
    text_ = at::cat({text_, ids}, 1);
    return next({text_});
  }
  std::vector<at::Tensor> inputs{ids};
  std::move(past_.begin(), past_.end(), std::back_inserter(inputs));
  return next(std::move(inputs));
}

at::Tensor GreedyDecoder::next(std::vector<at::Tensor> inputs) {
  std::vector<at::Tensor> outputs = model_.outputs(inputs);
  const std::size_t kept = model_.signature().past.shapes.size();
  const bool gives_logits = outputs.size() > kept && outputs[0].dim() == 3 &&
                            outputs[0].is_floating_point() && outputs[0].size(2) > 1 &&
                            outputs[0].size(1) == inputs[0].size(1);
  if (!gives_logits) {
    throw Error(ErrorKind::kUnsupported,
                {.what = "the model writes no text",
                 .where = model_.path(),
                 .expected = "logits [batch, tokens, vocabulary]" +
                             (kept > 0 ? " and " + std::to_string(kept) + " keys and values"
                                       : std::string()),
                 .got = std::to_string(outputs.size()) + " outputs"});
  }
  past_.assign(outputs.end() - static_cast<std::ptrdiff_t>(kept), outputs.end());
  return outputs[0].select(1, -1).argmax(-1, /*keepdim=*/true);
}

at::Tensor greedy_text(const LoadedModel& model, const at::Tensor& ids, std::int64_t tokens) {
  GreedyDecoder decoder(model);
  std::vector<at::Tensor> text{decoder.prefill(ids)};
  while (std::ssize(text) < tokens) text.push_back(decoder.step(text.back()));
  return at::cat(text, 1);
}

}  // namespace repquant
