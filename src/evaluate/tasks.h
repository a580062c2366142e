// One function for each task of evaluation. All throw as evaluate().
#pragma once

#include "evaluate/session.h"

namespace repquant {

EvaluationReport evaluate_classification(Session& session);
EvaluationReport evaluate_perplexity(Session& session);
EvaluationReport evaluate_embedding(Session& session);
EvaluationReport evaluate_retrieval(Session& session);

/// Replaces all samples by a seeded draw of `options.samples`, if that is given.
void draw(Session& session);

}  // namespace repquant
