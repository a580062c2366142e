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

/// The grid per token of a Linear's input. Where a norm in front can carry it, every channel is
/// centred and divided by the square root of its half width on `rows` (x [n, K]) first: half of
/// RepQuant's fold, which spares the weights the other half. Up to kMostLevelBits bits it has the
/// levels that best_levels() finds for the rows, each value counting by the square of its row's
/// range times what the channel's error makes of the output (problem.gram) and by the row's weight.
InputQuantizer fit_token_input(const WeightedRows& rows, const LinearProblem& problem);

}  // namespace repquant
