// Whether both streams see the same rows: where a model routes tokens, they may not.
#pragma once

#include <unordered_set>
#include <vector>

#include "graph/site.h"
#include "graph/walker.h"

namespace repquant {

using ValueSet = std::unordered_set<const torch::jit::Value*>;

/// Values that depend on the output of a site: what differs between the streams.
ValueSet quantized_values(const Schedule& schedule, const std::vector<Site>& sites);

/// True if which rows `value` holds is decided by `quantized` values, as those of a routed expert
/// are: the streams may then hold other tokens, or another number of them. What is written back to
/// its place (index_add, scatter) is where it was.
bool rows_depend_on_data(const torch::jit::Value* value, const ValueSet& quantized);

}  // namespace repquant
