#include "repquant/benchmark.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text_table.h"
#include "benchmark/timing.h"
#include "data/model_inputs.h"
#include "evaluate/loaded_model.h"
#include "evaluate/metrics.h"
#include "evaluate/model_file.h"
#include "pipeline/calibration.h"
#include "repquant/artifact.h"
#include "repquant/error.h"
#include "tensor/parallel.h"

namespace repquant {
namespace {

using Inputs = std::vector<at::Tensor>;

struct Contender {
  LoadedModel model;
  BenchmarkModel report;
};

void check_options(const BenchmarkOptions& options) {
  const auto fail = [](const char* what, const char* expected) {
    throw Error(ErrorKind::kUsage, {.what = what, .expected = expected});
  };
  if (options.models.empty()) fail("no model to measure", "at least one");
  if (options.batch_sizes.empty()) fail("no batch size", "at least one");
  for (const auto size : options.batch_sizes) {
    if (size < 1 || size > 65536) fail("bad batch size", "1 to 65536");
  }
  if (const auto* data = std::get_if<DataPath>(&options.data); data && data->path.empty()) {
    fail("no data to run on", "a path, or synthetic samples");
  }
  if (options.threads < 1) fail("bad number of threads", "at least 1");
  if (options.warmup < 1) fail("bad number of warm-up passes", "at least 1");
  if (options.rounds < 1 || options.rounds > 1000) fail("bad number of rounds", "1 to 1000");
}

/// Loads a model as it would be deployed, and notes what that cost.
Contender load_contender(const ModelForm& model, const Observer& observer) {
  const std::int64_t before = resident_memory_bytes();
  const auto start = Clock::now();
  Contender contender{.model = LoadedModel(model), .report = {}};
  BenchmarkModel& report = contender.report;
  report.form = model.form;
  report.artifact = model.form != Form::kFloat;
  if (!report.artifact && !contender.model.freeze()) {
    observer.warn(model.path + " cannot be frozen and is measured as it is");
  }
  report.load_seconds = seconds_since(start);
  report.resident_bytes = std::max<std::int64_t>(0, resident_memory_bytes() - before);
  report.path = model.path;
  report.file_bytes = contender.model.file_bytes();
  return contender;
}

/// What an artifact says about itself; read after the timed load.
void describe(BenchmarkModel& model, BenchmarkReport& report) {
  if (!model.artifact) return;
  const ArtifactReport artifact = inspect_artifact(model.path);
  model.recorded_sqnr_db = artifact.info.output_sqnr_db;
  model.integer_share = artifact.runtime.integer_share;
  if (model.form != Form::kFused) return;
  const FusedReport fused = inspect_fused(model.path, artifact);
  model.integer_share = fused.integer_share;
  report.cpu_level = fused.cpu_level;
}

/// One batch of the data's first samples, or of random ones.
Inputs make_inputs(const CalibrationSource& source, std::int64_t size, const LoadedModel& model) {
  CalibrationRecipe recipe;
  recipe.samples = static_cast<int>(size);
  recipe.batch_size = static_cast<int>(size);
  Inputs inputs = load_calibration(source, recipe, model.signature()).batches.front();
  if (!inputs.empty() && inputs.front().dim() > 0 && inputs.front().size(0) < size) {
    throw Error(ErrorKind::kUsage, {.what = "the data has fewer samples than the batch size",
                                    .where = "`data`",
                                    .expected = std::to_string(size),
                                    .got = std::to_string(inputs.front().size(0))});
  }
  return inputs;
}

/// Correctness comes before any timing.
void compare_outputs(std::vector<Contender>& contenders, const Inputs& inputs, bool real_data,
                     const Observer& observer) {
  const at::Tensor expected = contenders.front().model.run(inputs);
  for (auto& contender : contenders) {
    BenchmarkModel& report = contender.report;
    const at::Tensor got = contender.model.run(inputs);
    if (!got.sizes().equals(expected.sizes())) {
      throw Error(ErrorKind::kNumerical, {.what = "the models give outputs of different shapes",
                                          .where = report.path,
                                          .hint = "only models of the same task can be compared"});
    }
    AgreementSums sums;
    compare_logits(expected, got, sums);
    const Agreement agreement = summarize(sums);
    report.sqnr_db = agreement.sqnr_db;
    report.agreement = agreement.top1;
    if (!report.recorded_sqnr_db ||
        report.sqnr_db >= *report.recorded_sqnr_db - kRecordedMarginDb) {
      continue;
    }
    if (!real_data) {
      observer.info(report.path +
                    ": the outputs on random numbers say little about accuracy; `data` "
                    "compares them on real samples");
      continue;
    }
    const std::string distance = format_number(report.sqnr_db, 1) + " dB";
    const std::string recorded = format_number(*report.recorded_sqnr_db, 1) + " dB";
    if (report.sqnr_db < kUnrelatedDb) {
      throw Error(ErrorKind::kNumerical,
                  {.what = "an artifact has nothing in common with the baseline",
                   .where = report.path + " (" + name_of(report.form) + ")",
                   .expected = "an error below the signal; on its calibration data: " + recorded,
                   .got = distance,
                   .hint = "is it the artifact of this model, and the data what it was made for?"});
    }
    observer.warn(report.path + " (" + name_of(report.form) + "): " + distance +
                  " from the baseline, " + recorded +
                  " on the samples it was calibrated on; evaluate says what that means");
  }
}

std::vector<BenchmarkRow> measure(const std::vector<Contender>& contenders, const Inputs& inputs,
                                  std::int64_t batch_size, const BenchmarkOptions& options,
                                  const std::function<void()>& after_pass) {
  const std::size_t count = contenders.size();
  std::vector<BenchmarkRow> rows(count);
  for (std::size_t i = 0; i < count; ++i) {
    reset_peak_memory();
    for (int pass = 0; pass < options.warmup; ++pass) {
      contenders[i].model.forward(inputs);
      after_pass();
    }
    rows[i].peak_memory_bytes = peak_memory_bytes();
  }
  std::vector<std::vector<double>> seconds(count);
  for (int round = 0; round < options.rounds; ++round) {
    for (std::size_t k = 0; k < count; ++k) {
      const std::size_t i = (k + static_cast<std::size_t>(round)) % count;
      const auto start = Clock::now();
      contenders[i].model.forward(inputs);
      seconds[i].push_back(seconds_since(start));
      after_pass();
    }
  }
  for (std::size_t i = 0; i < count; ++i) {
    rows[i].model = i;
    rows[i].batch_size = batch_size;
    rows[i].latency = summarize_times(seconds[i]);
    rows[i].throughput = static_cast<double>(batch_size) / rows[i].latency.median;
    rows[i].speed_up = paired_speed_up(seconds.front(), seconds[i]);
  }
  return rows;
}

}  // namespace

BenchmarkReport benchmark(const BenchmarkOptions& options, const Observer& observer) {
  check_options(options);
  for (const auto& path : options.models) check_model_file(path);
  const std::vector<ModelForm> models = expand_forms(options.models, options.forms);
  const OperatorThreads threads(options.threads);
  const CalibrationSource source = open_calibration({.samples = options.data,
                                                     .preset_file = options.preset,
                                                     .model = options.models.front(),
                                                     .threads = options.threads});
  std::vector<Contender> contenders;
  for (const auto& model : models) contenders.push_back(load_contender(model, observer));
  BenchmarkReport report{.protocol = source.protocol,
                         .threads = options.threads,
                         .warmup = options.warmup,
                         .rounds = options.rounds,
                         .cpu_level = "",
                         .models = {},
                         .rows = {}};
  for (auto& contender : contenders) describe(contender.report, report);

  const LoadedModel& first = contenders.front().model;
  compare_outputs(contenders, make_inputs(source, options.batch_sizes.front(), first),
                  source.dataset.has_value(), observer);
  for (const std::int64_t size : options.batch_sizes) {
    const Inputs inputs = make_inputs(source, size, first);
    const auto passes =
        contenders.size() * static_cast<std::size_t>(options.warmup + options.rounds);
    observer.on_phase("batch " + std::to_string(size), passes);
    std::size_t done = 0;
    const auto rows = measure(contenders, inputs, size, options, [&] {
      observer.check_interrupt();
      observer.on_item("", ++done);
    });
    report.rows.insert(report.rows.end(), rows.begin(), rows.end());
  }
  for (auto& contender : contenders) report.models.push_back(std::move(contender.report));
  return report;
}

}  // namespace repquant
