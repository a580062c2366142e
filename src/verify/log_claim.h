// The logarithmic grids of the softmax codes, computed anew.
#pragma once

#include <string>

#include "verify/subject.h"

namespace repquant {

/// The weight that the artifact's own code gives to each code c of each softmax is 2^(-c / steps),
/// and for two steps an octave 2^-K times the sum of a power of two and sqrt 2 times another one
/// (docs/math.md): largest relative deviations, with bounds. Throws Error kGate where one is
/// exceeded.
std::string look_at_log_grids(const Subject& subject);

}  // namespace repquant
