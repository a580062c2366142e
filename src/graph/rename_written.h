// Names of what branches and loops of the data write into.
#pragma once

namespace torch::jit {
struct Graph;
}  // namespace torch::jit

namespace repquant {

/// What a branch or a loop writes into, later nodes read by another name (aten::detach): a value is
/// then one tensor, whose codes all of its readers may share.
void rename_written(torch::jit::Graph& graph);

}  // namespace repquant
