// From a module with methods and attributes to one graph with constants.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace torch::jit {
struct Graph;
struct Module;
}  // namespace torch::jit

namespace repquant {

/// The tensors of a model file.
struct FileTensors {
  std::int64_t parameters = 0;  // floating-point elements
  std::int64_t others = 0;      // bytes of the tensors of other types
  std::int64_t unread = 0;      // floating-point elements that forward() never reads
};

/// Calls of methods and functions become their bodies, and so does what `with` calls. So do forks,
/// where they stand: a future is the value itself then, and nothing is left to wait for. To be
/// called before all else. Throws Error kUnsupported where these never end.
void inline_calls(torch::jit::Graph& graph);

/// Objects that the graph makes and that no branch or loop assigns to: what is read of them are the
/// values that were assigned. Whether gradients are wanted is no longer set. After inline_calls().
void dissolve_local_objects(torch::jit::Graph& graph);

/// The forward method of `module` (in eval mode) with all calls inlined and named by their module,
/// and with attributes as constants that share their storage; its first input, the module itself,
/// is removed. Nothing is folded yet. `tensors`: what the file holds.
/// Throws Error kUnsupported for a model that assigns to its attributes.
std::shared_ptr<torch::jit::Graph> flatten(const torch::jit::Module& module,
                                           const std::string& path, FileTensors* tensors);

}  // namespace repquant
