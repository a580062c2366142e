// Top-1 and top-5 accuracy, and agreement of outputs of any kind with the reference.
#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "data/labels.h"
#include "evaluate/metrics.h"
#include "evaluate/tasks.h"
#include "repquant/error.h"

namespace repquant {
namespace {

/// What one run has shown so far.
struct ClassSums {
  AccuracyCounts accuracy;
  PairedCounts paired;
  AgreementSums agreement;
};

/// One value a sample, [B], as [B, 1]: the samples are no classes.
at::Tensor of_samples(const at::Tensor& output) {
  return output.dim() > 1 ? output : output.reshape({-1, 1});
}

}  // namespace

std::vector<std::int64_t> choose_labels(const Session& session) {
  const EvaluationOptions& options = *session.options;
  const Dataset& dataset = session.data.dataset;
  const bool asked = !options.labels.empty() || !options.classes.empty();
  if (!options.use_labels || (!asked && !has_labels(dataset))) return {};
  const at::Tensor logits = first_outputs(session, 0, task_positions(options)).front();
  const bool gated = std::count(options.required.begin(), options.required.end(), "top1") > 0;
  const bool classes_there = logits.dim() == 2 && logits.size(1) > 1;
  if (!asked && !gated && !classes_there && session.has_reference) {
    session.observer->warn("the output of the model is not [samples, classes]: no accuracy");
    return {};
  }
  std::optional<std::filesystem::path> classes;
  if (!options.classes.empty()) classes = options.classes;
  return resolve_labels(dataset, logits.dim() > 0 ? logits.size(-1) : 1, classes).labels();
}

EvaluationReport evaluate_classification(Session& session) {
  const EvaluationOptions& options = *session.options;
  draw(session);
  std::int64_t classes = 0;
  bool said = false;
  std::vector<ClassSums> sums(session.runs.size());

  for_each_output(session, task_positions(options), [&](const BatchOutputs& step) {
    const at::Tensor logits = of_samples(step.outputs.front());
    classes = logits.size(-1);
    if (classes == 1 && step.reference != nullptr && !std::exchange(said, true)) {
      session.observer->warn(
          "the output has one value a sample: there is no agreement and no KL, SQNR alone");
    }
    ClassSums& sum = sums[step.run];
    std::vector<std::int64_t> labels;
    if (!session.labels.empty()) {
      for (const auto index : step.indices) {
        labels.push_back(session.labels[static_cast<std::size_t>(index)]);
      }
      sum.accuracy += count_correct(logits, labels);
    }
    if (step.reference == nullptr) return;
    const at::Tensor expected = of_samples(step.reference->front());
    compare_logits(expected, logits, sum.agreement);
    if (!labels.empty()) sum.paired += count_paired(expected, logits, labels);
  });

  const bool labelled = !session.labels.empty();
  EvaluationReport report = make_report(session, "", [&](std::size_t run, ModelEvaluation& model) {
    if (labelled) model.accuracy = summarize(sums[run].accuracy, classes);
    if (!session.has_reference || session.is_reference(run)) return;
    model.agreement = summarize(sums[run].agreement);
    if (labelled) model.agreement->difference = summarize(sums[run].paired);
  });
  report.labelled = labelled;
  return report;
}

}  // namespace repquant
