// In-place operators of which PyTorch knows what they change only when the model runs.
#pragma once

#include <optional>

#include "graph/aliases.h"
#include "repquant/error.h"

namespace repquant {

/// For an in-place operator that writes into its first operand, an Error kUnsupported if somebody
/// reads later what it changes or not, by whether a reshape or the like gave a copy: what to say
/// where the model turns out to compute something else. `reads`: those that lead from the root to
/// what is written. Throws it where the sizes of the inputs decide, so that no single run tells.
std::optional<Error> doubt_of(const torch::jit::Node* write, const Reads& reads);

}  // namespace repquant
