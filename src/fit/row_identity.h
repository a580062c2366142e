// Whether both streams see the same rows: where a model routes tokens, they may not.
#pragma once

#include "graph/dependence.h"

namespace repquant {

/// True if which rows `value` holds is decided by `quantized` values, as those of a routed expert
/// are: the streams may then hold other tokens, or another number of them. What is written back to
/// its place (index_add, scatter) is where it was.
bool rows_depend_on_data(const torch::jit::Value* value, const ValueSet& quantized);

}  // namespace repquant
