// Blocks of a flat graph: stretches between positions where a single value carries everything.
#pragma once

#include <cstddef>
#include <vector>

#include "graph/site.h"
#include "graph/walker.h"

namespace repquant {

/// Nodes [begin, end) of the schedule.
struct GraphBlock {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::vector<std::size_t> sites;              // indices of the sites inside
  const torch::jit::Value* carried = nullptr;  // the tensor alive at `end`; null at the graph's end
};

/// Cuts the schedule where exactly one tensor that depends on a site is alive, and joins the parts
/// so that each block but the last one with sites holds one attention product (a transformer block;
/// the head joins the last one). Together the blocks hold every site, in order.
std::vector<GraphBlock> find_blocks(const Schedule& schedule, const std::vector<Site>& sites);

}  // namespace repquant
