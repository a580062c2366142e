// Which values of a graph depend on sites.
#pragma once

#include <unordered_set>
#include <vector>

#include "graph/site.h"
#include "graph/walker.h"

namespace repquant {

using ValueSet = std::unordered_set<const torch::jit::Value*>;

/// `values` and all that depends on an element of them, not on their shapes alone.
ValueSet dependent_values(const Schedule& schedule, ValueSet values);

/// Values that depend on the output of a site: what differs between the streams.
ValueSet quantized_values(const Schedule& schedule, const std::vector<Site>& sites);

}  // namespace repquant
