#include "evaluate/session.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include "base/clock.h"
#include "base/text_table.h"
#include "data/model_inputs.h"
#include "evaluate/gates.h"
#include "evaluate/metrics.h"
#include "evaluate/mixed_samples.h"
#include "evaluate/model_file.h"
#include "evaluate/tasks.h"
#include "repquant/artifact.h"
#include "repquant/error.h"
#include "tensor/parallel.h"
#include "tensor/samples.h"

namespace repquant {
namespace {

// TorchScript profiles a model in its first pass and optimises it in the second, which takes longer
// than dozens of later passes.
constexpr int kWarmUpPasses = 2;

void check_options(const EvaluationOptions& options) {
  if (options.models.empty()) {
    throw Error(ErrorKind::kUsage, {.what = "no model to evaluate"});
  }
  if (options.batch_size < 1 || options.threads < 1 || options.samples < 0) {
    throw Error(ErrorKind::kUsage, {.what = "batch size and threads must be at least 1"});
  }
}

/// `count` of the chosen samples from step `begin` on, which begin again when they are used up.
std::vector<std::int64_t> wrapped(const std::vector<std::int64_t>& chosen, std::int64_t begin,
                                  std::size_t count) {
  std::vector<std::int64_t> indices(count);
  for (std::size_t i = 0; i < count; ++i) {
    indices[i] = chosen[(static_cast<std::size_t>(begin) + i) % chosen.size()];
  }
  return indices;
}

std::vector<std::int64_t> all_of(const Dataset& dataset) {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(dataset.size()));
  std::iota(indices.begin(), indices.end(), std::int64_t{0});
  return indices;
}

/// A single input without a name gets that of the first model input that the texts do not give.
void name_single_input(Batch& batch, const Dataset& texts, const ModelSignature& signature) {
  if (!batch.names.empty() || batch.inputs.size() != 1) return;
  const auto& taken = texts.input_names();
  for (const auto& name : signature.names) {
    if (std::find(taken.begin(), taken.end(), name) != taken.end()) continue;
    batch.names = {name};
    return;
  }
}

/// Batches of samples of the same shapes, in order. With texts it is one: each sample has its own.
std::vector<Batch> load_batches(const Session& session, std::int64_t begin,
                                std::span<const std::int64_t> indices) {
  if (!session.texts) return session.data.dataset.load_batches(indices);
  Batch batch = session.data.dataset.load(indices);
  const Dataset& texts = *session.texts;
  name_single_input(batch, texts, session.runs.front().model.signature());
  Batch more = texts.load(wrapped(session.text_indices, begin, indices.size()));
  if (batch.names.empty() || more.names.empty()) {
    throw Error(ErrorKind::kUsage,
                {.what = "inputs from two places need names",
                 .where = session.options->texts,
                 .hint = "give .npz files with one array for each input, under the input's name"});
  }
  std::move(more.names.begin(), more.names.end(), std::back_inserter(batch.names));
  std::move(more.inputs.begin(), more.inputs.end(), std::back_inserter(batch.inputs));
  return {std::move(batch)};
}

/// One batch of the loop.
struct Step {
  std::int64_t begin = 0;
  std::vector<std::int64_t> indices;
  Batch batch;
};

/// Throws Error as LoadedModel::run(), with what of the data may have made NaN.
std::vector<at::Tensor> outputs_of(const Session& session, const TimedModel& run, const Step& step,
                                   std::span<const int> positions) {
  const std::vector<at::Tensor> inputs = arrange_inputs(step.batch, run.model.signature());
  try {
    return run.model.run(inputs, positions);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kNumerical) throw;
    const auto found = find_not_finite(step.batch, session.data.dataset, step.indices);
    if (!found) throw;
    throw with_cause(e, *found);
  }
}

void warm_up(const Session& session, const Step& step, std::span<const int> positions) {
  for (const TimedModel& run : session.runs) {
    for (int pass = 0; pass < kWarmUpPasses; ++pass) {
      session.observer->check_interrupt();
      static_cast<void>(outputs_of(session, run, step, positions));
    }
  }
}

/// The next batches, as many as there are threads, or more where shapes differ.
std::vector<Step> load_steps(Session& session, std::int64_t begin) {
  std::vector<Step> steps;
  const std::int64_t total = session.size(), size = session.options->batch_size;
  for (int thread = 0; thread < session.options->threads && begin < total; ++thread) {
    session.observer->check_interrupt();
    const std::int64_t count = std::min(total - begin, size);
    const auto indices = wrapped(session.indices, begin, static_cast<std::size_t>(count));
    for (Batch& batch : load_batches(session, begin, indices)) {
      const std::int64_t size_of_batch = batch.inputs.front().size(0);
      steps.push_back(
          {.begin = begin,
           .indices = wrapped(session.indices, begin, static_cast<std::size_t>(size_of_batch)),
           .batch = std::move(batch)});
      begin += size_of_batch;
    }
  }
  for (const Step& step : steps) {
    const auto found = find_not_finite(step.batch, session.data.dataset, step.indices);
    if (found && !found->only_low && !std::exchange(session.warned, true)) {
      session.observer->warn("the data has NaN or infinite values, such as " + found->where);
    }
    if (session.first_inputs.empty()) session.first_inputs = step.batch.inputs;
    session.other_shapes |= !same_sample_shapes(session.first_inputs, step.batch.inputs);
  }
  return steps;
}

/// Side by side, with one thread inside every operator: threads of operators wait for each other
/// busily, and beside other processes that takes several times the time.
std::vector<std::vector<at::Tensor>> forward(const Session& session, TimedModel& run,
                                             const std::vector<Step>& steps,
                                             std::span<const int> positions) {
  std::vector<std::vector<at::Tensor>> outputs(steps.size());
  const auto start = Clock::now();
  parallel_for(std::ssize(steps), session.options->threads, [&](std::int64_t i) {
    const auto at = static_cast<std::size_t>(i);
    outputs[at] = outputs_of(session, run, steps[at], positions);
  });
  run.seconds += seconds_since(start);
  return outputs;
}

/// An error in the middle of the data, with how far the evaluation came.
Error behind_samples(const Error& error, std::int64_t begin, std::int64_t total) {
  ErrorParts parts = error.parts();
  parts.what += ", after " + std::to_string(begin) + " of " + counted(total, "sample");
  return Error(error.kind(), std::move(parts));
}

/// Rethrows an error of a metric with the model's name.
template <class Function>
void for_model(const std::string& path, const Function& function) {
  try {
    function();
  } catch (const Error& e) {
    ErrorParts parts = e.parts();
    if (parts.where.empty()) parts.where = path;
    throw Error(e.kind(), std::move(parts));
  }
}

/// check_not_mixed() of a model that takes any number of samples. Rounding to codes hides what it
/// looks for; the model that an artifact was made of was checked then.
void check_samples_apart(const Session& session, const LoadedModel& model) {
  constexpr std::int64_t kSamples = 4;
  const std::int64_t count =
      std::min({session.size(), std::int64_t{session.options->batch_size}, kSamples});
  if (count < 2 || is_artifact(model.path())) return;
  const Batch batch =
      load_batches(session, 0, wrapped(session.indices, 0, static_cast<std::size_t>(count)))
          .front();
  const std::vector<at::Tensor> inputs = arrange_inputs(batch, model.signature());
  std::vector<at::Tensor> outputs;
  try {
    outputs = model.outputs(inputs);
    static_cast<void>(model.outputs(samples_of(inputs, 0, 1)));
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kUsage) throw;
    return;  // made for a number of samples
  }
  const auto outputs_of = [&](const std::vector<at::Tensor>& part) { return model.outputs(part); };
  check_not_mixed({model.path(), model.signature().names, outputs_of}, inputs, outputs,
                  *session.observer);
}

/// Whether every model takes the data, sample by sample, and gives what the reference gives on the
/// first one.
void check_first_outputs(const Session& session) {
  const std::vector<int> positions = task_positions(*session.options);
  const bool pooled = session.options->task == Task::kEmbedding;  // lengths are averaged away
  std::vector<at::Tensor> expected;
  for (std::size_t run = 0; run < session.runs.size(); ++run) {
    session.observer->check_interrupt();
    for_model(session.runs[run].model.path(), [&] {
      const std::vector<at::Tensor> outputs = first_outputs(session, run, positions);
      if (session.is_reference(run)) expected = outputs;
      for (std::size_t i = 0; i < expected.size() && !pooled; ++i) {
        check_same_shape(expected[i], outputs[i]);
      }
      check_samples_apart(session, session.runs[run].model);
    });
  }
}

/// One turn of for_each_output(). Returns where the next one begins.
std::int64_t measure_steps(Session& session, std::int64_t begin, std::span<const int> positions,
                           const std::function<void(const BatchOutputs&)>& measure) {
  const std::vector<Step> steps = load_steps(session, begin);
  if (begin == 0) warm_up(session, steps.front(), positions);
  std::vector<std::vector<at::Tensor>> expected;
  for (std::size_t run = 0; run < session.runs.size(); ++run) {
    const auto outputs = forward(session, session.runs[run], steps, positions);
    if (session.is_reference(run)) expected = outputs;
    const bool compare = session.has_reference && run > 0;
    for_model(session.runs[run].model.path(), [&] {
      for (std::size_t i = 0; i < steps.size(); ++i) {
        measure({steps[i].batch, steps[i].begin, steps[i].indices, run, outputs[i],
                 compare ? &expected[i] : nullptr});
      }
    });
  }
  return steps.back().begin + std::ssize(steps.back().indices);
}

/// Of a model that takes as many samples at a time as a pass has: throws Error kUsage if it would
/// fail at the end of the data, in a pass of fewer.
void check_last_pass(const Session& session, const std::string& path,
                     const std::function<void(std::size_t count)>& run) {
  const EvaluationOptions& options = *session.options;
  const std::int64_t drawn = session.data.dataset.scores().empty() ? 1 : 2;  // at a time: pairs
  const std::int64_t total =
      options.samples > 0 ? std::min(session.size(), options.samples * drawn) : session.size();
  const std::int64_t pass = options.batch_size, rest = total % pass;
  if (total < pass || rest == 0) return;
  try {
    run(static_cast<std::size_t>(rest));
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kUsage) throw;
    throw Error(ErrorKind::kUsage,
                {.what = "the model does not take the samples that are left for the last pass",
                 .where = path,
                 .expected = "a multiple of " + counted(pass, "sample"),
                 .got = counted(total, "sample") + ", which leave " + std::to_string(rest),
                 .hint = "use `samples=" + std::to_string((total - rest) / drawn) +
                         "`, or export it for any number of samples"});
  }
}

std::string positions_text(const std::vector<int>& positions) {
  std::string text;
  for (const int position : positions) {
    text += (text.empty() ? "" : ",") + std::to_string(position);
  }
  return text;
}

}  // namespace

std::int64_t Session::size() const {
  return static_cast<std::int64_t>(std::max(indices.size(), text_indices.size()));
}

Session open_session(const EvaluationOptions& options, const Observer& observer) {
  check_options(options);
  check_required(options);
  check_task_options(options);
  std::vector<ModelForm> models;
  if (!options.reference.empty()) {
    check_model_file(options.reference, options.trust);
    models = expand_forms({options.reference}, {Form::kPortable});
  }
  for (const auto& path : options.models) check_model_file(path, options.trust);
  for (auto& model : expand_forms(options.models, options.forms)) {
    models.push_back(std::move(model));
  }
  Session session{.options = &options,
                  .observer = &observer,
                  .runs = {},
                  .has_reference = !options.reference.empty(),
                  .data = open_data({.path = options.data,
                                     .preset_file = options.preset,
                                     .labels_file = options.labels,
                                     .model = options.models.front(),
                                     .tokens = options.tokens,
                                     .threads = options.threads}),
                  .models = std::move(models),
                  .texts = std::nullopt,
                  .indices = {},
                  .text_indices = {},
                  .labels = {},
                  .first_inputs = {}};
  check_required(options, session.data.dataset);
  if (!options.texts.empty()) {
    DatasetOptions arrays;
    arrays.threads = options.threads;
    session.texts = open_dataset(options.texts, arrays);
    session.text_indices = all_of(*session.texts);
  }
  check_task(options, session.data.dataset, session.texts);
  session.indices = all_of(session.data.dataset);
  session.runs.push_back({.model = LoadedModel(session.models.front(), options.trust)});
  return session;
}

void load_models(Session& session) {
  while (session.runs.size() < session.models.size()) {
    const ModelForm& model = session.models[session.runs.size()];
    session.runs.push_back({.model = LoadedModel(model, session.options->trust)});
  }
  check_first_outputs(session);
}

std::vector<at::Tensor> first_outputs(const Session& session, std::size_t run,
                                      std::span<const int> positions) {
  const LoadedModel& model = session.runs.at(run).model;
  const auto outputs_of = [&](std::size_t count) {
    const Batch batch = load_batches(session, 0, wrapped(session.indices, 0, count)).front();
    return model.forward(arrange_inputs(batch, model.signature()), positions);
  };
  const auto whole =
      static_cast<std::size_t>(std::min<std::int64_t>(session.size(), session.options->batch_size));
  try {
    return outputs_of(1);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kUsage || whole < 2) throw;
  }
  std::vector<at::Tensor> outputs = outputs_of(whole);  // traced for a number of samples
  check_last_pass(session, model.path(),
                  [&](std::size_t count) { static_cast<void>(outputs_of(count)); });
  return outputs;
}

void for_each_output(Session& session, std::span<const int> positions,
                     const std::function<void(const BatchOutputs&)>& measure) {
  const std::int64_t total = session.size();
  session.observer->on_phase("evaluate", static_cast<std::size_t>(total));
  for (std::int64_t begin = 0; begin < total;) {
    try {
      begin = measure_steps(session, begin, positions, measure);
    } catch (const Error& e) {
      if (begin == 0 || e.kind() == ErrorKind::kInterrupted) throw;
      throw behind_samples(e, begin, total);
    }
    session.observer->on_item("", static_cast<std::size_t>(begin));
  }
}

EvaluationReport make_report(const Session& session, const std::string& protocol,
                             const std::function<void(std::size_t run, ModelEvaluation&)>& fill) {
  EvaluationReport report;
  report.task = session.options->task;
  report.samples = std::ssize(session.indices);
  const std::int64_t all = session.data.dataset.size();
  report.protocol = (report.samples < all ? std::to_string(report.samples) + " of " : "") +
                    session.data.protocol + (session.other_shapes ? kOtherShapes : "") +
                    (protocol.empty() ? "" : "; " + protocol);
  for (std::size_t run = 0; run < session.runs.size(); ++run) {
    const TimedModel& timed = session.runs[run];
    ModelEvaluation result;
    result.model = timed.model.path();
    result.form = timed.model.form();
    result.file_bytes = timed.model.file_bytes();
    result.seconds = timed.seconds;
    fill(run, result);
    if (session.is_reference(run)) {
      report.reference = std::move(result);
    } else {
      report.models.push_back(std::move(result));
    }
  }
  return report;
}

std::vector<int> output_positions(const EvaluationOptions& options, std::vector<int> defaults) {
  if (options.outputs.empty()) return defaults;
  const auto& given = options.outputs;
  const bool twice = given.size() == 2 && given[0] == given[1];  // nothing to compare
  if (given.size() != defaults.size() || twice ||
      *std::min_element(given.begin(), given.end()) < 0) {
    throw Error(ErrorKind::kUsage,
                {.what = "bad choice of outputs",
                 .where = "`outputs`",
                 .expected = counted(defaults.size(), "position") + ", counted from 0" +
                             (defaults.size() > 1 ? ", each another" : ""),
                 .got = positions_text(given)});
  }
  return given;
}

}  // namespace repquant
