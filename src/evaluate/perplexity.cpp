#include "evaluate/perplexity.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "archive/bytes.h"
#include "base/text_table.h"
#include "data/model_inputs.h"
#include "evaluate/metrics.h"
#include "evaluate/tasks.h"
#include "repquant/error.h"
#include "tensor/shape_text.h"

namespace repquant {
namespace {

// Rows of logits that are held in double at a time: 64 x 50,000 x 8 bytes are 26 MB.
constexpr std::int64_t kPositionBlock = 64;

/// What one window adds up to.
struct WindowSums {
  double nll = 0.0;
  double difference = 0.0;
  double kl = 0.0;
  double same_top1 = 0.0;
};

/// A block of predictions: logits [n, V] of the model and the reference, ids [n] that came.
void add_block(const at::Tensor& logits, const at::Tensor* reference, const at::Tensor& ids,
               WindowSums& window, Energies& noise) {
  const at::Tensor actual = logits.to(at::kDouble);
  const at::Tensor log_q = at::log_softmax(actual, -1);
  const at::Tensor column = ids.unsqueeze(-1);
  const double nll = -log_q.gather(-1, column).sum().item<double>();
  if (!std::isfinite(nll)) {
    throw Error(ErrorKind::kNumerical,
                {.what = "the model gives a token of the text no probability: its logit, or one "
                         "beside it, is infinite",
                 .hint = "perplexity needs a text without tokens that the model suppresses"});
  }
  window.nll += nll;
  if (reference == nullptr) return;
  check_same_infinities(*reference, logits);
  const at::Tensor expected = reference->to(at::kDouble);
  const at::Tensor log_p = at::log_softmax(expected, -1);
  window.difference += nll + log_p.gather(-1, column).sum().item<double>();
  // Tokens that both suppress have no part in it. A divergence is not negative; rounding can leave
  // -1e-17 for equal rows.
  const at::Tensor finite = expected.isfinite();
  const at::Tensor divergence = at::where(finite, log_p.exp() * (log_p - log_q), 0.0);
  window.kl += divergence.sum(-1).clamp_min(0.0).sum().item<double>();
  window.same_top1 += static_cast<double>(count_same_top1(expected, actual));
  noise.add(expected, actual);
}

void check_logits(const at::Tensor& logits, const TokenTargets& targets) {
  const auto sizes = targets.ids.sizes();
  if (logits.dim() != 3 || logits.size(0) != sizes[0] || logits.size(1) != sizes[1]) {
    throw Error(ErrorKind::kUsage,
                {.what = "the output of the model does not fit the token ids",
                 .expected = "logits [" + std::to_string(sizes[0]) + ", " +
                             std::to_string(sizes[1]) + ", vocabulary]",
                 .got = shape_text(logits.sizes()),
                 .hint = "perplexity needs a language model; `outputs` chooses another output"});
  }
  const auto largest = targets.ids.max().item<std::int64_t>();
  if (largest >= logits.size(2)) {
    throw Error(ErrorKind::kUsage, {.what = "a token id lies outside the vocabulary of the model",
                                    .expected = "0 to " + std::to_string(logits.size(2) - 1),
                                    .got = std::to_string(largest),
                                    .hint = "tokenize the text with the model's own tokenizer"});
  }
}

/// `shape`: with the dimension of samples.
void check_ids(at::ScalarType type, at::IntArrayRef shape) {
  if (shape.size() == 2 && at::isIntegralType(type, /*includeBool=*/false)) return;
  throw Error(ErrorKind::kUsage,
              {.what = "the data holds no token ids",
               .expected = "integers [samples, length], or a stream of ids with `window`",
               .got = std::string(c10::toString(type)) + " " + shape_text(shape),
               .hint = "perplexity is a measure of language models; for images leave `task` out"});
}

std::string words_text(std::int64_t words) {
  return words > 0 ? ", " + counted(words, "word") : std::string();
}

}  // namespace

void require_token_ids(const Dataset& dataset) {
  const auto& names = dataset.input_names();
  const auto named = std::find(names.begin(), names.end(), "input_ids");
  const auto position =
      static_cast<std::size_t>(named == names.end() ? 0 : std::distance(names.begin(), named));
  std::vector<std::int64_t> shape{dataset.size()};
  const auto& sample = dataset.input_shapes().at(position);
  shape.insert(shape.end(), sample.begin(), sample.end());
  check_ids(dataset.input_types().at(position), shape);
}

TokenTargets token_targets(const Batch& batch, const Dataset& dataset,
                           std::span<const std::int64_t> indices) {
  const at::Tensor& ids = token_ids(batch);
  check_ids(ids.scalar_type(), ids.sizes());
  TokenTargets targets{.ids = ids.to(at::kLong), .counted = at::zeros(ids.sizes(), at::kBool)};
  if (dataset.holds_tokens()) {
    for (std::size_t row = 0; row < indices.size(); ++row) {
      const TokenSpan span = dataset.targets(indices[row]);
      targets.counted[static_cast<std::int64_t>(row)].slice(0, span.begin, span.end).fill_(true);
    }
    return targets;
  }
  const at::Tensor* mask = attention_mask(batch);
  const at::Tensor real = mask != nullptr ? mask->ne(0) : at::ones(ids.sizes(), at::kBool);
  if (!real.sizes().equals(ids.sizes())) {
    throw Error(ErrorKind::kUsage, {.what = "the attention mask does not fit the token ids",
                                    .expected = shape_text(ids.sizes()),
                                    .got = shape_text(real.sizes())});
  }
  if (ids.size(1) > 1) {
    targets.counted.slice(1, 1).copy_(real.slice(1, 1).logical_and(real.slice(1, 0, -1)));
  }
  return targets;
}

void add_predictions(const at::Tensor& logits, const at::Tensor* reference,
                     const TokenTargets& targets, PerplexitySums& sums) {
  check_logits(logits, targets);
  if (reference != nullptr) check_same_shape(*reference, logits);
  for (std::int64_t row = 0; row < logits.size(0); ++row) {
    const at::Tensor positions = targets.counted[row].nonzero().flatten();
    const std::int64_t count = positions.size(0);
    if (count == 0) continue;
    WindowSums window;
    for (std::int64_t begin = 0; begin < count; begin += kPositionBlock) {
      const at::Tensor chosen = positions.slice(0, begin, std::min(begin + kPositionBlock, count));
      const at::Tensor before = chosen - 1;
      std::optional<at::Tensor> expected;
      if (reference != nullptr) expected = (*reference)[row].index_select(0, before);
      add_block(logits[row].index_select(0, before), expected ? &*expected : nullptr,
                targets.ids[row].index_select(0, chosen), window, sums.logits);
    }
    const auto tokens = static_cast<double>(count);
    sums.nll.add(window.nll, tokens);
    if (reference == nullptr) continue;
    sums.difference.add(window.difference, tokens);
    sums.kl.add(window.kl, tokens);
    sums.same_top1.add(window.same_top1, tokens);
  }
}

Perplexity summarize_perplexity(const PerplexitySums& sums, std::int64_t words, bool compared) {
  const auto exponential = [](const Interval& interval) {
    return Interval{std::exp(interval.lower), std::exp(interval.upper)};
  };
  Perplexity result;
  result.tokens = static_cast<std::int64_t>(sums.nll.count());
  result.nll = sums.nll.mean();
  result.token = std::exp(result.nll.value);
  result.interval = exponential(normal_interval(result.nll));
  if (words > 0) {
    result.word = std::exp(result.nll.value * sums.nll.count() / static_cast<double>(words));
  }
  if (compared) {
    result.ratio = std::exp(sums.difference.value());
    result.ratio_interval = exponential(normal_interval(sums.difference.mean()));
  }
  return result;
}

Agreement summarize_agreement(const PerplexitySums& sums) {
  const Mean same = sums.same_top1.mean();
  const Interval interval = normal_interval(same);
  const auto total = static_cast<std::int64_t>(sums.same_top1.count());
  Agreement agreement;
  agreement.top1 = {.count = std::llround(same.value * sums.same_top1.count()),
                    .total = total,
                    .value = same.value,
                    .interval = {std::max(0.0, interval.lower), std::min(1.0, interval.upper)}};
  agreement.kl = sums.kl.mean();
  agreement.sqnr_db = sums.logits.sqnr_db();
  return agreement;
}

std::int64_t count_words(const std::string& text) {
  if (text.empty()) return 0;
  std::int64_t words = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), words);
  if (code == std::errc{} && end == text.data() + text.size()) {
    if (words < 1) {
      throw Error(ErrorKind::kUsage, {.what = "bad number of words",
                                      .where = "`words`",
                                      .expected = "at least 1, or a text file",
                                      .got = text});
    }
    return words;
  }
  bool inside = false;
  for (const std::uint8_t byte : read_bytes(text)) {
    const bool space = byte == ' ' || (byte >= '\t' && byte <= '\r');
    if (!space && !inside) ++words;
    inside = !space;
  }
  if (words == 0) throw_file_error("the text has no words", text);
  return words;
}

EvaluationReport evaluate_perplexity(Session& session) {
  const EvaluationOptions& options = *session.options;
  const std::int64_t words = count_words(options.words);
  draw(session);
  std::vector<PerplexitySums> sums(session.runs.size());
  for_each_output(session, task_positions(options), [&](const BatchOutputs& step) {
    const TokenTargets targets = token_targets(step.batch, session.data.dataset, step.indices);
    add_predictions(step.outputs.front(), step.reference ? &step.reference->front() : nullptr,
                    targets, sums[step.run]);
  });
  const auto tokens = static_cast<std::int64_t>(sums.front().nll.count());
  if (tokens == 0) {
    throw Error(ErrorKind::kUsage,
                {.what = "no token is predicted from one before it", .where = options.data});
  }
  return make_report(session, counted(tokens, "token counts", "tokens count") + words_text(words),
                     [&](std::size_t run, ModelEvaluation& model) {
                       const bool compared = session.has_reference && !session.is_reference(run);
                       model.perplexity = summarize_perplexity(sums[run], words, compared);
                       if (compared) model.agreement = summarize_agreement(sums[run]);
                     });
}

}  // namespace repquant
