// One function for each task of evaluation. All throw as evaluate().
#pragma once

#include "evaluate/session.h"

namespace repquant {

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
