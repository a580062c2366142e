// Fits what a grid per token leaves open: how much of the channels' spread a norm takes, and
// levels.
#pragma once

#include <ATen/core/Tensor.h>

#include "fit/linear_problem.h"
#include "fit/rows.h"
#include "plan/site_plan.h"

namespace repquant {

/// At most this many bits: codes are indices of learned levels.
inline constexpr int kMostLevelBits = 6;

/// The grid per token of a Linear's input. Of no fold, one by channel scales and one by scales and
/// centres (fit_token_fold(), fitted on half of `rows`, x [n, K]) it takes the one with the least
/// error on the other half; where no norm in front can carry it, a fold costs a pass over the input
/// and must take away a fifth of the error. Up to kMostLevelBits bits the grid has the levels that
/// best_levels() finds for the rows, each value counting by the square of its row's range times
/// what the channel's error makes of the output (its readers) and by the row's weight. With a
/// `group_size` below K each group of so many columns has a range of its own.
InputQuantizer fit_token_input(const WeightedRows& rows, const LinearProblem& linear,
                               int group_size = 0);

}  // namespace repquant
