// Keeps the constants of a graph small before it is saved.
#pragma once

namespace torch::jit {
struct Graph;
}

namespace repquant {

/// Makes tensor constants own exactly their elements (a view would save its whole storage) and
/// equal ones the same. Types that record a shape are widened, so that no shape of the calibration
/// data is left in the graph.
void tidy_constants(torch::jit::Graph& graph);

}  // namespace repquant
