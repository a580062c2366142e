#include "repquant/benchmark.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <random>

#include "base/clock.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/text_table.h"
#include "benchmark/greedy_decoder.h"
#include "benchmark/timing.h"
#include "data/model_inputs.h"
#include "evaluate/loaded_model.h"
#include "evaluate/metrics.h"
#include "evaluate/model_file.h"
#include "pipeline/calibration.h"
#include "repquant/artifact.h"
#include "repquant/error.h"
#include "tensor/parallel.h"
#include "tensor/samples.h"
#include "tensor/shape_text.h"

namespace repquant {
namespace {

using Inputs = std::vector<at::Tensor>;

struct Contender {
  LoadedModel model;
  BenchmarkModel report;
};

void check_options(const BenchmarkOptions& options) {
  const auto fail = [](const char* what, const std::string& expected) {
    throw Error(ErrorKind::kUsage, {.what = what, .expected = expected});
  };
  if (options.models.empty()) fail("no model to measure", "at least one");
  if (options.batch_sizes.empty()) fail("no batch size", "at least one");
  for (const auto size : options.batch_sizes) {
    if (size < 1 || size > kMostBatchSize) {
      fail("bad batch size", "1 to " + std::to_string(kMostBatchSize));
    }
  }
  if (const auto* data = std::get_if<DataPath>(&options.data); data && data->path.empty()) {
    fail("no data to run on", "a path, or synthetic samples");
  }
  if (options.threads < 1) fail("bad number of threads", "at least 1");
  if (options.warmup < 1) fail("bad number of warm-up passes", "at least 1");
  if (options.rounds < 1 || options.rounds > 1000) fail("bad number of rounds", "1 to 1000");
  constexpr std::int64_t kLongest = std::int64_t{1} << 20;
  if (options.prompt < 2 || options.prompt > kLongest)
    fail("bad length of the prompt", "2 to 2^20");
  if (options.tokens < 1 || options.tokens > kLongest) fail("bad number of tokens", "1 to 2^20");
}

/// Loads a model as it would be deployed, and notes what that cost.
Contender load_contender(const ModelForm& model, bool trust, const Observer& observer) {
  const std::int64_t before = resident_memory_bytes();
  const auto start = Clock::now();
  Contender contender{.model = LoadedModel(model, trust), .report = {}};
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
  report.keeps_past = !contender.model.signature().past.empty();
  return contender;
}

/// What an artifact says about itself; read after the timed load.
void describe(BenchmarkModel& model, bool trust, BenchmarkReport& report) {
  if (!model.artifact) return;
  const ArtifactReport artifact = inspect_artifact(model.path, trust);
  model.recorded_sqnr_db = artifact.info.output_sqnr_db;
  model.integer_share = artifact.runtime.integer_share;
  if (model.form != Form::kFused) return;
  const FusedReport fused = inspect_fused(model.path, artifact, trust);
  model.integer_share = fused.integer_share;
  report.cpu_level = fused.cpu_level;
}

[[noreturn]] void fail_shapes(const Inputs& first, const Inputs& other) {
  const auto text = [](const Inputs& inputs) {
    std::string shapes;
    for (const at::Tensor& tensor : inputs) {
      shapes += (shapes.empty() ? "" : ", ") +
                shape_text(tensor.sizes().slice(std::min<std::int64_t>(tensor.dim(), 1)));
    }
    return shapes;
  };
  throw Error(ErrorKind::kUsage, {.what = "the samples of one pass differ in their shapes",
                                  .where = "`data`",
                                  .expected = text(first),
                                  .got = text(other),
                                  .hint = "time batches of 1, or samples of one shape"});
}

/// One batch of the data's first samples, or of random ones.
Inputs make_inputs(const CalibrationSource& source, std::int64_t size, const LoadedModel& model) {
  CalibrationRecipe recipe;
  recipe.samples = static_cast<int>(size);
  recipe.batch_size = static_cast<int>(size);
  const auto parts = load_calibration(source, recipe, model.signature()).batches;
  Inputs inputs = parts.front();
  for (std::size_t i = 0; parts.size() > 1 && i < inputs.size(); ++i) {  // long texts come in parts
    std::vector<at::Tensor> all;
    for (const Inputs& part : parts) {
      if (!same_sample_shapes(part, parts.front())) fail_shapes(parts.front(), part);
      all.push_back(part.at(i));
    }
    inputs[i] = at::cat(all, 0);
  }
  if (!inputs.empty() && inputs.front().dim() > 0 && inputs.front().size(0) < size) {
    throw Error(ErrorKind::kUsage, {.what = "the data has fewer samples than the batch size",
                                    .where = "`data`",
                                    .expected = std::to_string(size),
                                    .got = std::to_string(inputs.front().size(0))});
  }
  return inputs;
}

/// Whether the data has the model's inputs; running it comes later.
void check_takes(const LoadedModel& model, const CalibrationSource& source) {
  try {
    static_cast<void>(make_inputs(source, 1, model));
  } catch (const Error& e) {
    ErrorParts parts = e.parts();
    if (parts.where.empty()) parts.where = model.path();
    throw Error(e.kind(), std::move(parts));
  }
}

/// Correctness comes before any timing.
void compare_outputs(std::vector<Contender>& contenders,
                     const std::function<Inputs(const LoadedModel&)>& inputs, bool real_data,
                     const Observer& observer) {
  const LoadedModel& baseline = contenders.front().model;
  const at::Tensor expected = baseline.run(inputs(baseline));
  for (auto& contender : contenders) {
    BenchmarkModel& report = contender.report;
    const at::Tensor got = contender.model.run(inputs(contender.model));
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

/// A part of a pass that is timed by itself.
struct Phase {
  std::string name;
  double items = 1;  // samples or tokens
};

/// Runs a model once and says how many seconds each phase took.
using Pass = std::function<std::vector<double>(const LoadedModel& model)>;

std::vector<BenchmarkRow> measure(const std::vector<Contender>& contenders,
                                  const std::vector<Phase>& phases, const Pass& pass,
                                  std::int64_t batch_size, const BenchmarkOptions& options,
                                  const std::function<void()>& after_pass) {
  const std::size_t count = contenders.size();
  std::vector<std::int64_t> peak_memory;
  for (const Contender& contender : contenders) {
    reset_peak_memory();
    for (int i = 0; i < options.warmup; ++i) {
      pass(contender.model);
      after_pass();
    }
    peak_memory.push_back(peak_memory_bytes());
  }
  std::vector<std::vector<std::vector<double>>> seconds(  // by phase, model, round
      phases.size(), std::vector<std::vector<double>>(count));
  for (int round = 0; round < options.rounds; ++round) {
    for (std::size_t k = 0; k < count; ++k) {
      const std::size_t i = (k + static_cast<std::size_t>(round)) % count;
      const std::vector<double> taken = pass(contenders[i].model);
      for (std::size_t p = 0; p < phases.size(); ++p) seconds[p][i].push_back(taken.at(p));
      after_pass();
    }
  }
  std::vector<BenchmarkRow> rows;
  for (std::size_t p = 0; p < phases.size(); ++p) {
    for (std::size_t i = 0; i < count; ++i) {
      const Latency latency = summarize_times(seconds[p][i]);
      rows.push_back({.model = i,
                      .phase = phases[p].name,
                      .batch_size = batch_size,
                      .latency = latency,
                      .throughput = phases[p].items / latency.median,
                      .speed_up = paired_speed_up(seconds[p].front(), seconds[p][i]),
                      .peak_memory_bytes = peak_memory[i]});
    }
  }
  return rows;
}

/// What the models run on at one batch size, and how that is timed.
struct Work {
  std::function<Inputs(const LoadedModel&)> inputs;  // of the first pass
  std::vector<Phase> phases;
  Pass pass;
};

Work forward_work(const CalibrationSource& source, std::int64_t size, const LoadedModel& first) {
  const Inputs inputs = make_inputs(source, size, first);
  return {.inputs = [inputs](const LoadedModel&) { return inputs; },
          .phases = {{.name = "", .items = static_cast<double>(size)}},
          .pass =
              [inputs](const LoadedModel& model) {
                const auto start = Clock::now();
                model.forward(inputs);
                return std::vector<double>{seconds_since(start)};
              }};
}

Work generate_work(const at::Tensor& prompts, std::int64_t tokens) {
  const auto size = static_cast<double>(prompts.size(0));
  return {.inputs =
              [prompts](const LoadedModel& model) {
                return arrange_inputs({.names = {}, .inputs = {prompts}, .labels = {}},
                                      model.signature());
              },
          .phases = {{.name = "prefill", .items = size * static_cast<double>(prompts.size(1))},
                     {.name = "decode", .items = size}},
          .pass =
              [prompts, tokens](const LoadedModel& model) {
                GreedyDecoder decoder(model);
                const auto start = Clock::now();
                at::Tensor ids = decoder.prefill(prompts);
                const double prefill = seconds_since(start);
                for (std::int64_t i = 0; i < tokens; ++i) ids = decoder.step(ids);
                const double all = seconds_since(start);
                return std::vector<double>{prefill, (all - prefill) / static_cast<double>(tokens)};
              }};
}

/// Prompts, int64 [size, options.prompt]: the first windows of the data, else seeded random ids.
at::Tensor make_prompts(const CalibrationSource& source, const BenchmarkOptions& options,
                        std::int64_t size, const LoadedModel& first) {
  if (source.dataset) return make_inputs(source, size, first).front();
  const at::Tensor one = at::zeros({1, 1}, at::kLong);
  const at::Tensor logits = first.forward(
      arrange_inputs({.names = {}, .inputs = {one}, .labels = {}}, first.signature()));
  std::mt19937_64 engine(0);
  at::Tensor ids = at::empty({size, options.prompt}, at::kLong);
  auto* data = ids.mutable_data_ptr<std::int64_t>();
  const auto vocabulary = static_cast<std::uint64_t>(std::max<std::int64_t>(logits.size(-1), 1));
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    data[i] = static_cast<std::int64_t>(engine() % vocabulary);
  }
  return ids;
}

/// How far the texts of the first prompt agree with the baseline's.
void compare_texts(std::vector<Contender>& contenders, const at::Tensor& prompts,
                   std::int64_t tokens, const Observer& observer) {
  at::Tensor expected;
  for (auto& contender : contenders) {
    observer.check_interrupt();
    try {
      const at::Tensor text =
          greedy_text(contender.model, prompts.slice(0, 0, 1), tokens).flatten();
      if (!expected.defined()) expected = text;
      contender.report.same_tokens = text.eq(expected).cumprod(0).sum().item<std::int64_t>();
    } catch (const Error& e) {
      ErrorParts parts = e.parts();
      if (parts.hint.empty()) {
        parts.hint = "`prompt` and `tokens` together must fit into the context of the model";
      }
      throw Error(e.kind(), std::move(parts));
    }
  }
}

CalibrationSource open_source(const BenchmarkOptions& options) {
  const bool generate = options.task == BenchmarkTask::kGenerate;
  CalibrationSource source;
  if (generate && std::holds_alternative<Synthetic>(options.data)) {
    source.protocol = "random ids";
  } else {
    SampleSource samples = options.data;
    if (generate) std::get<DataPath>(samples).tokens.window = options.prompt;
    source = open_calibration({.samples = samples,
                               .preset_file = options.preset,
                               .model = options.models.front(),
                               .threads = options.threads});
  }
  if (source.dataset) {  // the first samples, as many as the largest batch takes
    const auto used = *std::max_element(options.batch_sizes.begin(), options.batch_sizes.end());
    if (used < source.dataset->size()) {
      source.protocol = std::to_string(used) + " of " + source.protocol;
    }
  }
  if (generate) {
    source.protocol += "; " + std::to_string(options.prompt) + " tokens of prompt, " +
                       std::to_string(options.tokens) + " written";
  }
  return source;
}

}  // namespace

BenchmarkReport benchmark(const BenchmarkOptions& options, const Observer& observer) {
  check_options(options);
  for (const auto& path : options.models) check_model_file(path, options.trust);
  const std::vector<ModelForm> models = expand_forms(options.models, options.forms);
  const OperatorThreads threads(options.threads);
  const CalibrationSource source = open_source(options);
  const bool generate = options.task == BenchmarkTask::kGenerate;
  std::vector<Contender> contenders;
  for (const auto& model : models) {
    contenders.push_back(load_contender(model, options.trust, observer));
    if (!generate) check_takes(contenders.back().model, source);
  }
  BenchmarkReport report{.task = options.task,
                         .protocol = source.protocol,
                         .threads = options.threads,
                         .warmup = options.warmup,
                         .rounds = options.rounds,
                         .tokens = generate ? options.tokens : 0,
                         .cpu_level = "",
                         .models = {},
                         .rows = {}};
  for (auto& contender : contenders) describe(contender.report, options.trust, report);

  const LoadedModel& first = contenders.front().model;
  const auto work_at = [&](std::int64_t size) {
    return generate ? generate_work(make_prompts(source, options, size, first), options.tokens)
                    : forward_work(source, size, first);
  };
  compare_outputs(contenders, work_at(options.batch_sizes.front()).inputs,
                  source.dataset.has_value(), observer);
  if (generate) {
    compare_texts(contenders, make_prompts(source, options, 1, first), options.tokens, observer);
  }
  for (const std::int64_t size : options.batch_sizes) {
    const Work work = work_at(size);
    const auto passes =
        contenders.size() * static_cast<std::size_t>(options.warmup + options.rounds);
    observer.on_phase("batch " + std::to_string(size), passes);
    std::size_t done = 0;
    const auto rows = measure(contenders, work.phases, work.pass, size, options, [&] {
      observer.check_interrupt();
      observer.on_item("", ++done);
    });
    report.rows.insert(report.rows.end(), rows.begin(), rows.end());
  }
  for (auto& contender : contenders) report.models.push_back(std::move(contender.report));
  return report;
}

}  // namespace repquant
