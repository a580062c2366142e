// Counting what a model stores.
#pragma once

#include <cstdint>

#include "graph/model.h"

namespace repquant {

/// Number of elements of all floating-point tensor constants; a tensor used twice counts once.
std::int64_t count_parameters(const Model& model);

}  // namespace repquant
