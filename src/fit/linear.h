// Fits the input grid, the fold and the weight of one Linear site.
#pragma once

#include <string>

#include "fit/linear_problem.h"
#include "plan/site_plan.h"
#include "repquant/recipe.h"

namespace repquant {

/// Fits and returns the plan; `note` gets what was decided. The grid is fitted on a sample of the
/// rows (see row_sample.h), the weight on sums over all of them; neither depends on threads.
/// Without any rows the weight is rounded to nearest; without rows to tell a range from, the grid
/// is one per token. Throws Error kNumerical (naming the site) for inputs that are not finite.
LinearPlan fit_linear(const LinearProblem& given, const Recipe& recipe, std::string& note);

/// A plan in words: "per channel; gptq".
std::string describe(const LinearPlan& plan);

}  // namespace repquant
