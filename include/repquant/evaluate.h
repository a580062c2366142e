// Evaluation of TorchScript models, floating point or quantized, on data. No LibTorch types here.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace repquant {

/// Bounds of a 95 % confidence interval.
struct Interval {
  double lower = 0.0;
  double upper = 0.0;
};

/// A share of samples, 0..1, with its Wilson score interval.
struct Proportion {
  std::int64_t count = 0;
  std::int64_t total = 0;
  double value = 0.0;
  Interval interval;
};

struct Accuracy {
  Proportion top1;
  std::optional<Proportion> top5;  // absent with five classes or fewer
};

/// Top-1 of a model minus top-1 of the reference on the same samples (-1..1).
struct PairedDifference {
  std::int64_t gained = 0;  // samples that only the model has right
  std::int64_t lost = 0;    // samples that only the reference has right
  double difference = 0.0;
  double standard_error = 0.0;
  Interval interval;  // Agresti and Min, 2005: never of width zero
};

/// Outputs of a model beside those of the reference on the same samples.
struct Agreement {
  Proportion top1;       // both rank the same class first
  double mean_kl = 0.0;  // mean of KL(softmax(reference) || softmax(model)), nats
  double sqnr_db = 0.0;  // 10 log10(sum reference^2 / sum (reference - model)^2)
  std::optional<PairedDifference> difference;  // with labels
};

struct ModelEvaluation {
  std::string model;
  std::int64_t file_bytes = 0;
  double seconds = 0.0;  // forward passes alone
  std::optional<Accuracy> accuracy;
  std::optional<Agreement> agreement;
};

struct EvaluationOptions {
  std::vector<std::string> models;
  std::string reference;     // FP32 model to compare with; empty: none
  std::string data;          // see open_dataset()
  std::string labels;        // file of labels; empty: class folders or an array of labels, if any
  std::string classes;       // file that maps class folders to logits; empty: sorted folder names
  std::string preset;        // preprocessing preset; empty: the one of the first model
  std::int64_t samples = 0;  // 0: all
  std::uint64_t seed = 0;    // of the draw when `samples` is less than all
  int batch_size = 16;
  int threads = 1;
};

struct EvaluationReport {
  std::string protocol;  // how samples became model inputs, in one line
  std::int64_t samples = 0;
  bool labelled = false;
  std::optional<ModelEvaluation> reference;  // accuracy only
  std::vector<ModelEvaluation> models;       // in the order of the options
};

struct EvaluationHooks {
  std::function<void(std::int64_t done, std::int64_t samples)> on_progress;
  std::function<void()> check_interrupt;  // throws Error kInterrupted to stop
  std::function<void(const std::string&)> warn;
};

/// Runs every model (and the reference) on the same batches. For classification the first output
/// tensor holds the logits, [B, C]; without labels only agreement is measured, and the output may
/// have any shape [.., C].
/// Throws Error: kFile (model or data), kUsage (labels, classes, inputs that do not fit),
/// kUnsupported (a model that fails on the data), kNumerical (an output that is not finite).
EvaluationReport evaluate(const EvaluationOptions& options, const EvaluationHooks& hooks = {});

}  // namespace repquant
