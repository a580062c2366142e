#include "repquant/evaluate.h"

#include "data/sampling.h"
#include "evaluate/tasks.h"
#include "repquant/error.h"
#include "tensor/parallel.h"

namespace repquant {

void check_evaluation(const EvaluationOptions& options) {
  const OperatorThreads one_thread(1);  // batches are what runs side by side
  const Observer observer;
  const Session session = open_session(options, observer);
  if (options.task == Task::kClassification) static_cast<void>(choose_labels(session));
}

EvaluationReport evaluate(const EvaluationOptions& options, const Observer& observer) {
  const OperatorThreads one_thread(1);  // batches are what runs side by side
  Session session = open_session(options, observer);
  if (options.task == Task::kClassification) session.labels = choose_labels(session);
  load_models(session);
  switch (options.task) {
    case Task::kClassification:
      return evaluate_classification(session);
    case Task::kPerplexity:
      return evaluate_perplexity(session);
    case Task::kEmbedding:
      return evaluate_embedding(session);
    case Task::kRetrieval:
      return evaluate_retrieval(session);
  }
  throw Error(ErrorKind::kInternal, {.what = "a task without an evaluation"});
}

void draw(Session& session) {
  if (session.options->samples < 1) return;
  session.indices =
      draw_samples(session.data.dataset.size(), session.options->samples, session.options->seed);
}

}  // namespace repquant
