// Evaluates what the walker leaves out: a module's own graph, in which submodules are called.
#pragma once

#include "graph/walker.h"

namespace repquant {

/// Evaluates prim::GetAttr and prim::CallMethod nodes; false for any other node. Tensors are handed
/// to a call as copies: it may overwrite values that it alone reads, and a comparison that looks at
/// them later must not see that.
bool run_module_call(const torch::jit::Node* node, Values& values);

}  // namespace repquant
