// Assignments to parts of tensors, as new tensors.
#pragma once

#include <memory>
#include <optional>

#include "repquant/error.h"

namespace torch::jit {
struct Graph;
}  // namespace torch::jit

namespace repquant {

/// Rewrites in-place operators on tensors and on views of them (y[:, 0] = z, y[1:] += z) as
/// operators that give new tensors. What shares memory with the tensor or holds it (views, lists,
/// tuples, dicts) and is read behind them is made again from those. In-place operators inside
/// branches and loops stay. Returns true if it changed the graph. Throws Error kUnsupported for a
/// write whose new value cannot be put where it is read. `doubt`: the first one that doubt_of()
/// has.
bool functionalize(std::shared_ptr<torch::jit::Graph>& graph, std::optional<Error>* doubt);

/// Throws Error kUnsupported for an in-place operator on an attribute of the model, or on a view of
/// one. To be called before passes that remove in-place operators: they take a constant for a value
/// that nobody sees again.
void refuse_written_state(torch::jit::Graph& graph);

}  // namespace repquant
