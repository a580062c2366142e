// What a task needs of options and data, before models are loaded.
#include "base/text_table.h"
#include "data/labels.h"
#include "evaluate/perplexity.h"
#include "evaluate/tasks.h"
#include "repquant/error.h"

namespace repquant {
namespace {

[[noreturn]] void fail_without_measure(const std::string& missing, const EvaluationOptions& options,
                                       const char* hint) {
  throw Error(ErrorKind::kUsage,
              {.what = "nothing to measure: " + missing + " and there is no reference",
               .where = options.data,
               .hint = hint});
}

void check_classification(const EvaluationOptions& options, const Dataset& dataset) {
  const bool asked = !options.labels.empty() || !options.classes.empty();
  if (!options.reference.empty() || (options.use_labels && (asked || has_labels(dataset)))) return;
  fail_without_measure("there are no labels", options,
                       "give labels (class folders, an array named labels, `labels`) or the "
                       "floating-point model as `reference`");
}

void check_perplexity(const EvaluationOptions& options, const Dataset& dataset) {
  require_token_ids(dataset);
  if (!options.words.empty() && options.samples > 0) {
    throw Error(ErrorKind::kUsage, {.what = "the words of the text say nothing about a draw of it",
                                    .where = "`words`",
                                    .hint = "leave out `samples`"});
  }
  static_cast<void>(count_words(options.words));
}

void check_embedding(const EvaluationOptions& options, const Dataset& dataset) {
  if (!options.reference.empty() || !dataset.scores().empty()) return;
  fail_without_measure("the data has no scores", options,
                       "give an array named scores, one for each pair of samples, or the "
                       "floating-point model as `reference`");
}

void check_retrieval(const EvaluationOptions& options, const Dataset& images,
                     const std::optional<Dataset>& texts) {
  if (!texts || is_labelled(options, images, texts) || images.size() == texts->size()) return;
  throw Error(ErrorKind::kUsage,
              {.what = "images and texts are no pairs, and the images have no labels",
               .where = options.texts,
               .expected = counted(images.size(), "text") + ", or labels",
               .got = counted(texts->size(), "text")});
}

}  // namespace

void check_task_options(const EvaluationOptions& options) {
  const bool labelled = options.task == Task::kClassification || options.task == Task::kRetrieval;
  const auto check = [&](bool used, const std::string& given, const char* setting,
                         const char* tasks) {
    if (used || given.empty()) return;
    throw Error(ErrorKind::kUsage, {.what = "the task has no use for this",
                                    .where = setting,
                                    .expected = tasks,
                                    .got = "the task " + name_of(options.task),
                                    .hint = "leave it out, or choose another `task`"});
  };
  check(options.task == Task::kPerplexity, options.words, "`words`", "`task=perplexity`");
  check(options.task == Task::kRetrieval, options.texts, "`texts`", "`task=retrieval`");
  check(labelled, options.labels, "`labels`", "`task=classification` or `task=retrieval`");
  check(labelled, options.classes, "`classes`", "`task=classification` or `task=retrieval`");
}

bool is_labelled(const EvaluationOptions& options, const Dataset& images,
                 const std::optional<Dataset>& texts) {
  return texts && options.use_labels && has_labels(images);
}

std::vector<int> task_positions(const EvaluationOptions& options) {
  return output_positions(
      options, options.task == Task::kRetrieval ? std::vector<int>{0, 1} : std::vector<int>{0});
}

void check_task(const EvaluationOptions& options, const Dataset& dataset,
                const std::optional<Dataset>& texts) {
  static_cast<void>(task_positions(options));
  switch (options.task) {
    case Task::kClassification:
      return check_classification(options, dataset);
    case Task::kPerplexity:
      return check_perplexity(options, dataset);
    case Task::kEmbedding:
      return check_embedding(options, dataset);
    case Task::kRetrieval:
      return check_retrieval(options, dataset, texts);
  }
}

}  // namespace repquant
