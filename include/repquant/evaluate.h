// Evaluation of TorchScript models, floating point or quantized, on data. No LibTorch types here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "repquant/form.h"
#include "repquant/observer.h"
#include "repquant/tokens.h"

namespace repquant {

/// Bounds of a 95 % confidence interval.
struct Interval {
  double lower = 0.0;
  double upper = 0.0;
};

/// A share of samples, 0..1, with its interval (Wilson's score; see also Agreement).
struct Proportion {
  std::int64_t count = 0;
  std::int64_t total = 0;
  double value = 0.0;
  Interval interval;
};

/// A mean over samples with its standard error; the error is NaN for a single sample.
struct Mean {
  double value = 0.0;
  double standard_error = 0.0;
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

/// Outputs of a model beside those of the reference on the same samples. For perplexity these are
/// the predictions that count, and interval and error allow for their dependence in a window.
struct Agreement {
  // Of rows of two values at least; none of models that give one value.
  std::optional<Proportion> top1;  // both rank the same class first
  std::optional<Mean> kl;          // KL(softmax(reference) || softmax(model)), nats
  double sqnr_db = 0.0;            // 10 log10(sum reference^2 / sum (reference - model)^2)
  std::optional<PairedDifference> difference;  // with labels
};

/// How well a language model predicts token ids.
struct Perplexity {
  std::int64_t tokens = 0;      // predictions that count
  Mean nll;                     // negative log likelihood of a token, nats; error by window
  double token = 0.0;           // exp(nll)
  Interval interval;            // of `token`
  std::optional<double> word;   // exp(nll * tokens / words)
  std::optional<double> ratio;  // token perplexity over that of the reference
  std::optional<Interval> ratio_interval;  // paired by window
};

/// Embeddings of sentences or other samples.
struct Embedding {
  std::int64_t pairs = 0;          // with scores
  std::optional<double> spearman;  // rank correlation of cosine similarity and score, -1..1
  std::optional<Interval> spearman_interval;  // Bonett and Wright, 2000
  std::optional<Mean> cosine;        // of the embeddings with those of the reference, -1..1
  std::optional<double> min_cosine;  // the worst sample
  std::optional<double> sqnr_db;     // of the embeddings, against the reference
};

/// Share of queries whose match ranks among the first k, by cosine similarity.
struct Recall {
  std::string direction;  // "image to text"
  int k = 1;
  Proportion share;
};

/// Two towers, such as images and texts.
struct Retrieval {
  std::vector<Recall> recalls;  // zero-shot classification is "image to text" over the classes
  std::optional<Mean> cosine;   // of all embeddings with those of the reference
};

struct ModelEvaluation {
  std::string model;
  Form form = Form::kFloat;
  std::int64_t file_bytes = 0;
  double seconds = 0.0;  // forward passes alone
  std::optional<Accuracy> accuracy;
  std::optional<Agreement> agreement;
  std::optional<Perplexity> perplexity;
  std::optional<Embedding> embedding;
  std::optional<Retrieval> retrieval;
};

enum class Task { kClassification, kPerplexity, kEmbedding, kRetrieval };

struct EvaluationOptions {
  Task task = Task::kClassification;
  std::vector<std::string> models;
  std::vector<Form> forms{Form::kPortable};  // see expand_forms()
  std::string reference;     // FP32 model to compare with; empty: none; an artifact runs portable
  std::string data;          // a folder, .npz, .npy .. (docs/data.md)
  TokenOptions tokens;       // of `data`, when it is a stream
  std::string labels;        // file of labels; empty: class folders or an array of labels, if any
  bool use_labels = true;    // false: agreement alone, whatever labels the data has
  std::string classes;       // file that maps class folders to logits; empty: sorted folder names
  std::string preset;        // preprocessing preset; empty: the one of the first model
  std::string words;         // perplexity: number of words, or the text they are counted in
  std::string texts;         // retrieval: inputs of the other tower; empty: they are in `data`
  std::vector<int> outputs;  // which output tensors: one, for retrieval two; empty: the first ones
  std::vector<std::string> required;  // metrics that the result must have, such as "top1"
  std::int64_t samples = 0;           // 0: all; pairs for embedding with scores
  std::uint64_t seed = 0;             // of the draw when `samples` is less than all
  int batch_size = 16;
  int threads = 1;
  bool trust = false;  // code of the models may reach files and processes (docs/security.md)
};

struct EvaluationReport {
  Task task = Task::kClassification;
  std::string protocol;  // how samples became model inputs, and what counts, in one line
  std::int64_t samples = 0;
  bool labelled = false;
  std::optional<ModelEvaluation> reference;  // without agreement
  std::vector<ModelEvaluation> models;       // in the order of expand_forms()
};

/// Runs every model in each form (and the reference) on the same batches.
///  - Classification: the output holds the logits, [B, C]; without labels only agreement is
///    measured, and the output may have any shape [.., C].
///  - Perplexity: the output holds logits [B, T, V] of the next token for ids [B, T] (a stream cut
///    into windows, or the data's first input with an optional mask named attention_mask or mask).
///  - Embedding: the output is [B, D], or [B, T, D] and is averaged over the attention mask.
///  - Retrieval: two outputs [B, D]; row i of one belongs to row i of the other, or, when the data
///    has labels, to the row of the texts that the label names.
/// Throws Error: kFile (model or data), kUsage (labels, classes, forms, inputs that do not fit),
/// kUnsupported (a model that fails on the data), kNumerical (an output that is not finite).
EvaluationReport evaluate(const EvaluationOptions& options, const Observer& observer = {});

/// Refuses what evaluate() would refuse for options and data, by the first model alone: metrics
/// without labels or reference, labels that do not fit. Throws Error as evaluate().
void check_evaluation(const EvaluationOptions& options);

/// "classification", "perplexity", "embedding" or "retrieval".
std::string name_of(Task task);

/// The task of that name. Throws Error kUsage with `where` for any other.
Task parse_task(const std::string& name, const std::string& where);

}  // namespace repquant
