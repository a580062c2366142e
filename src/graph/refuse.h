// Models that cannot be quantized by their nature.
#pragma once

#include <string>

namespace torch::jit {
struct Graph;
}  // namespace torch::jit

namespace repquant {

/// Throws Error kUnsupported, with the operator and its place, if the model is quantized already.
void refuse_quantized(torch::jit::Graph& graph, const std::string& path);

/// The same if an output depends on random numbers.
void refuse_random(torch::jit::Graph& graph, const std::string& path);

}  // namespace repquant
