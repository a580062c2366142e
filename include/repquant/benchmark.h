// Speed and memory of TorchScript models, side by side. No LibTorch types here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "repquant/evaluate.h"
#include "repquant/observer.h"
#include "repquant/samples.h"

namespace repquant {

enum class BenchmarkTask {
  kForward,   // whole passes
  kGenerate,  // text: one pass over a prompt, then token by token
};

struct BenchmarkOptions {
  BenchmarkTask task = BenchmarkTask::kForward;
  std::vector<std::string> models;           // the first one is the baseline of all ratios
  std::vector<Form> forms{Form::kPortable};  // see expand_forms()
  SampleSource data = Synthetic{};           // what they run on; speed hardly depends on it
  std::string preset;                        // empty: the one of the first model
  std::vector<std::int64_t> batch_sizes{1};
  int threads = 1;
  int warmup = 3;             // passes of each model that are not timed; LibTorch optimises in them
  int rounds = 20;            // timed passes of each model, one round after another
  std::int64_t prompt = 128;  // kGenerate: tokens of the prompt, random ids if `data` is Synthetic
  std::int64_t tokens = 64;   // and tokens that are written behind it
  bool trust = false;         // code of the models may reach files and processes (docs/security.md)
};

/// Times of single forward passes, in seconds. Of a token that is written: the mean of its round.
struct Latency {
  double median = 0.0;
  double p90 = 0.0;
  double p99 = 0.0;
  double minimum = 0.0;
};

/// How much faster than the baseline: median over the rounds of baseline / model, with the
/// distribution-free 95 % interval of the median (order statistics).
struct SpeedUp {
  double median = 1.0;
  Interval interval;
};

/// One model at one batch size.
struct BenchmarkRow {
  std::size_t model = 0;  // index into BenchmarkReport::models
  std::string phase;      // of writing text: "prefill" or "decode"; empty: whole passes
  std::int64_t batch_size = 1;
  Latency latency;
  double throughput = 0.0;  // samples, or tokens, per second at the median
  SpeedUp speed_up;
  std::int64_t peak_memory_bytes = 0;  // of the process during this model's warm-up
};

struct BenchmarkModel {
  std::string path;
  Form form = Form::kFloat;
  bool artifact = false;
  std::int64_t file_bytes = 0;
  double load_seconds = 0.0;               // reading and preparing, before the first pass
  std::int64_t resident_bytes = 0;         // growth of the process by loading it
  std::optional<double> integer_share;     // of an artifact's multiply-accumulates, 0..1
  double sqnr_db = 0.0;                    // outputs against the baseline's on the first batch
  std::optional<Proportion> agreement;     // rows in which both rank the same class first
  std::optional<double> recorded_sqnr_db;  // what the artifact says about itself
  bool keeps_past = false;  // keys and values; without them every token costs a whole pass
  /// kGenerate: how many tokens of the first text are the baseline's, before one that is not.
  std::optional<std::int64_t> same_tokens;
};

struct BenchmarkReport {
  BenchmarkTask task = BenchmarkTask::kForward;
  std::string protocol;  // what the inputs are
  int threads = 1;
  int warmup = 3;
  int rounds = 20;
  std::int64_t tokens = 0;  // that each text of kGenerate has
  std::string cpu_level;  // instruction set of the fused operators; empty if there is no fused form
  std::vector<BenchmarkModel> models;  // in the order of expand_forms()
  std::vector<BenchmarkRow> rows;      // by batch size, then phase, then model
};

/// A greater distance from what an artifact has recorded about itself is worth a warning: that
/// figure is of its calibration data, which the weights were fitted on.
inline constexpr double kRecordedMarginDb = 6.0;

/// An error as large as the signal: outputs of another model, or of other data.
inline constexpr double kUnrelatedDb = 0.0;

/// Loads all models, compares their outputs with the baseline's, then times them interleaved: every
/// round runs each model once, starting with another one each time. Plain models are frozen, as is
/// usual for deployment; artifacts run as torch.jit.load gives them, without LibTorch's optimizer,
/// or fused as repquant::load does, or in both forms. Throws Error as evaluate(); kUsage when the
/// models do not take the same inputs, kNumerical when an output has another shape than the
/// baseline's or, with data, an artifact is further from it than kUnrelatedDb and than it has
/// recorded.
BenchmarkReport benchmark(const BenchmarkOptions& options, const Observer& observer = {});

}  // namespace repquant
