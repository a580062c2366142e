// Fits the grid of a Linear's input: its form, its range, and its side columns.
#pragma once

#include <string>

#include "fit/linear_problem.h"
#include "fit/rows.h"
#include "plan/site_plan.h"
#include "repquant/recipe.h"

namespace repquant {

struct FittedInput {
  InputQuantizer quantizer;
  SideColumns side;
  std::string note;  // what was compared, "; ..." or empty
};

/// `rows`: all rows of the problem or a sample of them, x [n, K], with what they count. Whether the
/// grid is per tensor or per channel (where the recipe leaves it open) and how far ranges reach
/// beyond the calibration data are decided by the error on that half of the rows which a range was
/// not fitted on, both ways. A grid per token has no side columns and is never quadratic, whatever
/// the recipe says of these.
FittedInput fit_linear_input(const WeightedRows& rows, const LinearProblem& problem,
                             const Recipe& recipe);

}  // namespace repquant
