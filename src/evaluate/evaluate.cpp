#include "repquant/evaluate.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <optional>
#include <sstream>

#include "data/bytes.h"
#include "data/dataset.h"
#include "data/labels.h"
#include "data/preprocess.h"
#include "data/sampling.h"
#include "evaluate/loaded_model.h"
#include "evaluate/metrics.h"
#include "evaluate/model_inputs.h"
#include "evaluate/open_data.h"
#include "repquant/error.h"

namespace repquant {
namespace {

using Clock = std::chrono::steady_clock;

/// What one model has shown so far.
struct Run {
  LoadedModel model;
  AccuracyCounts accuracy{};
  PairedCounts paired{};
  AgreementSums agreement{};
  double seconds = 0.0;

  at::Tensor forward(const Batch& batch) {
    const std::vector<at::Tensor> inputs = arrange_inputs(batch, model.signature());
    const auto start = Clock::now();
    at::Tensor logits = model.run(inputs);
    seconds += std::chrono::duration<double>(Clock::now() - start).count();
    return logits;
  }
};

/// Rethrows an error of a metric with the model's name.
template <class Function>
auto for_model(const std::string& path, const Function& function) {
  try {
    return function();
  } catch (const Error& e) {
    ErrorParts parts = e.parts();
    if (parts.where.empty()) parts.where = path;
    throw Error(e.kind(), std::move(parts));
  }
}

/// The dataset with labels for `classes` logits, or unchanged if it has none to give. Labels that
/// the user named, or that would be needed for a result, must fit.
Dataset with_labels(const Dataset& dataset, const EvaluationOptions& options,
                    const at::Tensor& logits, const EvaluationHooks& hooks) {
  const bool asked = !options.labels.empty() || !options.classes.empty();
  const bool available = !dataset.labels().empty() || !dataset.class_folders().empty();
  if (!asked && !available) return dataset;
  if (!asked && logits.dim() != 2) {
    if (hooks.warn) hooks.warn("the output of the model is not [samples, classes]: no accuracy");
    return dataset.with_labels({});
  }
  std::optional<std::filesystem::path> classes;
  if (!options.classes.empty()) classes = options.classes;
  return resolve_labels(dataset, logits.size(-1), classes);
}

void check_options(const EvaluationOptions& options) {
  if (options.models.empty()) {
    throw Error(ErrorKind::kUsage, {.what = "no model to evaluate"});
  }
  if (options.batch_size < 1 || options.threads < 1 || options.samples < 0) {
    throw Error(ErrorKind::kUsage, {.what = "batch size and threads must be at least 1"});
  }
}

ModelEvaluation result_of(const Run& run, std::int64_t classes, bool labelled, bool compared) {
  ModelEvaluation result;
  result.model = run.model.path();
  result.file_bytes = run.model.file_bytes();
  result.seconds = run.seconds;
  if (labelled) result.accuracy = summarize(run.accuracy, classes);
  if (compared) {
    result.agreement = summarize(run.agreement);
    if (labelled) result.agreement->difference = summarize(run.paired);
  }
  return result;
}

}  // namespace

EvaluationReport evaluate(const EvaluationOptions& options, const EvaluationHooks& hooks) {
  check_options(options);
  at::set_num_threads(options.threads);

  std::vector<Run> runs;
  for (const auto& path : options.models) runs.push_back({.model = LoadedModel(path)});
  std::optional<Run> reference;
  if (!options.reference.empty()) reference = Run{.model = LoadedModel(options.reference)};

  const OpenedData data = open_data({.path = options.data,
                                     .preset_file = options.preset,
                                     .labels_file = options.labels,
                                     .model = options.models.front(),
                                     .threads = options.threads});
  Dataset dataset = data.dataset;
  std::vector<std::int64_t> indices(static_cast<std::size_t>(dataset.size()));
  std::iota(indices.begin(), indices.end(), 0);
  if (options.samples > 0) indices = draw_samples(dataset.size(), options.samples, options.seed);
  const auto total = static_cast<std::int64_t>(indices.size());

  bool labelled = false;
  std::int64_t classes = 0;
  for (std::size_t begin = 0; begin < indices.size();) {
    if (hooks.check_interrupt) hooks.check_interrupt();
    const std::size_t size =
        std::min(indices.size() - begin, static_cast<std::size_t>(options.batch_size));
    const std::span<const std::int64_t> chosen(indices.data() + begin, size);
    const Batch batch = dataset.load(chosen);

    at::Tensor expected;
    if (reference) expected = reference->forward(batch);
    for (std::size_t i = 0; i < runs.size(); ++i) {
      Run& run = runs[i];
      const at::Tensor logits = run.forward(batch);
      if (begin == 0 && i == 0) {
        classes = logits.dim() > 0 ? logits.size(-1) : 1;
        dataset = with_labels(dataset, options, logits, hooks);
        labelled = !dataset.labels().empty();
      }
      std::vector<std::int64_t> labels;
      if (labelled) {
        for (const auto index : chosen) {
          labels.push_back(dataset.labels()[static_cast<std::size_t>(index)]);
        }
        for_model(run.model.path(), [&] { run.accuracy += count_correct(logits, labels); });
      }
      if (reference) {
        for_model(run.model.path(), [&] { run.agreement += compare_logits(expected, logits); });
        if (labelled) run.paired += count_paired(expected, logits, labels);
        if (labelled && i == 0) reference->accuracy += count_correct(expected, labels);
      }
    }
    begin += size;
    if (hooks.on_progress) hooks.on_progress(static_cast<std::int64_t>(begin), total);
  }

  if (!labelled && !reference) {
    throw Error(ErrorKind::kUsage,
                {.what = "nothing to measure: the data has no labels and there is no reference",
                 .where = options.data,
                 .hint = "give labels (class folders, an array named labels, --labels FILE) or the "
                         "floating-point model as --reference FILE"});
  }
  EvaluationReport report;
  report.protocol = data.protocol;
  report.samples = total;
  report.labelled = labelled;
  for (const Run& run : runs) {
    report.models.push_back(result_of(run, classes, labelled, reference.has_value()));
  }
  if (reference) report.reference = result_of(*reference, classes, labelled, false);
  return report;
}

}  // namespace repquant
