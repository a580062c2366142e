#include "evaluate/embedding.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/text_table.h"
#include "data/model_inputs.h"
#include "data/sampling.h"
#include "evaluate/metrics.h"
#include "evaluate/tasks.h"
#include "repquant/error.h"

namespace repquant {
namespace {

/// What one run has shown so far.
struct EmbeddingSums {
  std::vector<at::Tensor> parts;  // embeddings of the batches, kept only for scores
  ClusterMean cosine;             // with the reference
  double min_cosine = 1.0;
  Energies values;
};

void compare(const at::Tensor& expected, const at::Tensor& actual, EmbeddingSums& sums) {
  check_same_shape(expected, actual);
  for (const double cosine : cosines(expected, actual)) {
    sums.cosine.add(cosine, 1.0);
    sums.min_cosine = std::min(sums.min_cosine, cosine);
  }
  sums.values.signal += expected.square().sum().item<double>();
  sums.values.noise += (expected - actual).square().sum().item<double>();
}

/// All pairs or a draw of them, as samples; returns the scores that go with them.
std::vector<double> draw_pairs(Session& session) {
  const std::vector<double>& all = session.data.dataset.scores();
  if (all.empty()) {
    draw(session);
    return {};
  }
  if (session.options->samples < 1) return all;
  std::vector<double> scores;
  session.indices.clear();
  for (const std::int64_t pair : draw_samples(static_cast<std::int64_t>(all.size()),
                                              session.options->samples, session.options->seed)) {
    scores.push_back(all[static_cast<std::size_t>(pair)]);
    session.indices.push_back(2 * pair);
    session.indices.push_back(2 * pair + 1);
  }
  return scores;
}

Embedding summarize(const EmbeddingSums& sums, const std::vector<double>& scores, bool compared) {
  Embedding result;
  if (!scores.empty()) {
    const at::Tensor all = at::cat(sums.parts);
    const std::vector<double> similarity =
        cosines(all.slice(0, 0, std::nullopt, 2), all.slice(0, 1, std::nullopt, 2));
    result.pairs = static_cast<std::int64_t>(scores.size());
    result.spearman = spearman(similarity, scores);
    if (result.spearman) {
      result.spearman_interval = spearman_interval(*result.spearman, result.pairs);
    }
  }
  if (compared) {
    result.cosine = sums.cosine.mean();
    result.min_cosine = sums.min_cosine;
    result.sqnr_db = sums.values.sqnr_db();
  }
  return result;
}

}  // namespace

std::vector<std::int64_t> embedding_widths(const Session& session) {
  std::vector<std::int64_t> widths;
  for (const at::Tensor& output : first_outputs(session, 0, task_positions(*session.options))) {
    widths.push_back(output.dim() > 0 ? output.size(-1) : 1);
  }
  return widths;
}

void check_widths(const std::vector<at::Tensor>& outputs, std::span<const std::int64_t> widths) {
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const std::int64_t width = outputs[i].dim() > 0 ? outputs[i].size(-1) : 1;
    if (width == widths[i]) continue;
    throw Error(
        ErrorKind::kUsage,
        {.what = "an output of the model is no embedding: its width changes with the samples",
         .expected = std::to_string(widths[i]) + ", as for the first sample",
         .got = std::to_string(width),
         .hint = "`outputs` chooses the embeddings by position, from 0"});
  }
}

at::Tensor pooled(const at::Tensor& output, const Batch& batch) {
  require_finite(output);
  at::Tensor values = output.to(at::kDouble);
  if (values.dim() == 2) return values;
  if (values.dim() != 3) {
    throw Error(ErrorKind::kUsage, {.what = "the output of the model is no embedding",
                                    .expected = "[samples, width] or [samples, length, width]",
                                    .got = counted(values.dim(), "dimension"),
                                    .hint = "`outputs` chooses another output"});
  }
  const at::Tensor* given = attention_mask(batch);
  if (given == nullptr) return values.mean(1);
  const at::Tensor mask = given->ne(0).to(at::kDouble);
  if (!mask.sizes().equals(values.sizes().slice(0, 2))) {
    throw Error(ErrorKind::kUsage, {.what = "the attention mask does not fit the output",
                                    .expected = "[samples, length] as the output",
                                    .got = counted(mask.numel(), "value")});
  }
  const at::Tensor weights = mask.sum(1, true);
  if (weights.min().item<double>() <= 0.0) {
    throw Error(ErrorKind::kUsage, {.what = "an attention mask has no position to average over"});
  }
  return (values * mask.unsqueeze(-1)).sum(1) / weights;
}

at::Tensor normalized(const at::Tensor& embeddings) {
  const at::Tensor length = embeddings.square().sum(-1, true).sqrt();
  return embeddings / at::where(length.gt(0.0), length, at::ones_like(length));
}

std::vector<double> cosines(const at::Tensor& left, const at::Tensor& right) {
  const at::Tensor values =
      (normalized(left) * normalized(right)).sum(-1).clamp(-1.0, 1.0).contiguous();
  const double* data = values.const_data_ptr<double>();
  return {data, data + values.numel()};
}

EvaluationReport evaluate_embedding(Session& session) {
  const std::vector<double> scores = draw_pairs(session);
  std::vector<EmbeddingSums> sums(session.runs.size());
  bool averaged = false;
  const std::vector<std::int64_t> widths = embedding_widths(session);
  for_each_output(session, task_positions(*session.options), [&](const BatchOutputs& step) {
    check_widths(step.outputs, widths);
    averaged = step.outputs.front().dim() == 3;
    const at::Tensor actual = pooled(step.outputs.front(), step.batch);
    if (!scores.empty()) sums[step.run].parts.push_back(actual);
    if (step.reference != nullptr) {
      compare(pooled(step.reference->front(), step.batch), actual, sums[step.run]);
    }
  });
  std::string protocol = averaged ? "mean over unmasked positions" : "output as embedding";
  if (!scores.empty()) {
    protocol +=
        ", cosine similarity of " + counted(scores.size(), "pair") + " against their scores";
  }
  return make_report(session, protocol, [&](std::size_t run, ModelEvaluation& model) {
    model.embedding =
        summarize(sums[run], scores, session.has_reference && !session.is_reference(run));
  });
}

}  // namespace repquant
