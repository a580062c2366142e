// One function for each task of evaluation. All throw as evaluate().
#pragma once

#include "evaluate/session.h"

namespace repquant {

/// Throws Error kUsage for options that only other tasks look at.
void check_task_options(const EvaluationOptions& options);

/// What the options and the data alone show that the task cannot measure, said before a model is
/// loaded. `texts`: of the second tower. Throws Error kUsage or kFile.
void check_task(const EvaluationOptions& options, const Dataset& dataset,
                const std::optional<Dataset>& texts);

/// The positions of the output tensors that the task looks at. Throws as output_positions().
std::vector<int> task_positions(const EvaluationOptions& options);

/// True if labels say which text belongs to an image; else each has its own.
bool is_labelled(const EvaluationOptions& options, const Dataset& images,
                 const std::optional<Dataset>& texts);

/// Labels of all samples in the terms of the first model's logits; none where only agreement can be
/// measured. Throws Error kUsage if there is nothing to measure or labels do not fit.
std::vector<std::int64_t> choose_labels(const Session& session);

EvaluationReport evaluate_classification(Session& session);
EvaluationReport evaluate_perplexity(Session& session);
EvaluationReport evaluate_embedding(Session& session);
EvaluationReport evaluate_retrieval(Session& session);

/// Replaces all samples by a seeded draw of `options.samples`, if that is given.
void draw(Session& session);

}  // namespace repquant
