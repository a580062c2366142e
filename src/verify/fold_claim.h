// The folds of norms into the Linears behind them, computed anew.
#pragma once

#include <string>

#include "pipeline/prepare.h"
#include "verify/subject.h"

namespace repquant {

/// A folded norm of the artifact is the reference's norm with multipliers m > 0 and offsets a,
/// whether it puts out codes or what a grid per token is found from. The fold
/// that these realise (docs/math.md) changes the outputs of its Linears by at most 1e-3 of the
/// largest, on the first batch of `run`: of the reference, with samples.
std::string look_at_folds(const Subject& subject, const PreparedRun& run);

}  // namespace repquant
