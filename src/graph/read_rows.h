// Rows that nobody reads are not computed.
#pragma once

#include "graph/model.h"
#include "graph/observe.h"

namespace repquant {

/// f(x)[:, 0] -> f(x[:, :1])[:, 0] for what works row by row, as long as nobody reads other rows:
/// classifiers read one token of the last block. Reads are selects and slices from one end on.
/// `observed`: of a run of the model; the ranks of inputs are read off it. No node goes that
/// computes anything, and values that stay have as many rows as they have readers for.
void compute_only_read_rows(Model& model, const Observed& observed);

}  // namespace repquant
