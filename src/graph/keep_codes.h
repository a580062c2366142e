// Keys and values that a decoder keeps as codes: the operators that write and read them, in its
// graph, and what it computes without them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/walker.h"

namespace torch::jit {
struct Graph;
}  // namespace torch::jit

namespace repquant {

/// Sizes of each kept tensor for one sample, 0 where the tokens count.
using KeptShapes = std::vector<std::vector<std::int64_t>>;

/// The last outputs, one for each of `shapes` and each cat([past, new]) of an input [B, .., d] over
/// tokens, become codes as ops/cache.cpp writes them, uint8 [B, .., d + 8], and so do these inputs.
/// What read the joined keys and values reads them back from the codes. `where` names the model in
/// messages. Throws Error kUnsupported where an output is another value, tokens are the last
/// dimension, or something else reads the past.
void keep_codes(torch::jit::Graph& graph, const KeptShapes& shapes, const std::string& where);

/// A NodeHook that passes keys and values on as they are: the graph in floating point, with a past
/// in codes or in float32.
bool pass_cache(const torch::jit::Node* node, Values& values);

}  // namespace repquant
