// Inputs of forward() that hold several tensors, or none.
#pragma once

#include <ATen/core/ivalue.h>

#include <string>
#include <vector>

namespace torch::jit {
struct Graph;
struct Module;
struct Value;
}  // namespace torch::jit

namespace repquant {

/// The names of the tensors that an input of a flat graph consists of: "x" itself, or "obs.0",
/// "obs.1" of a tuple or list, "batch.ids" of a dict (keys that the graph reads, in their order).
std::vector<std::string> leaves_of(const torch::jit::Value* input, const std::string& name);

/// One value for each of `inputs` from the tensors of all of them in order: tuples, lists and dicts
/// are filled, and numbers are read from tensors whose elements are all equal. Values that already
/// fit are passed on. Throws Error kUsage when the number of tensors does not fit.
std::vector<c10::IValue> structured_inputs(c10::ArrayRef<const torch::jit::Value*> inputs,
                                           const std::vector<c10::IValue>& tensors);

/// The arguments of a module's forward() from such tensors.
std::vector<c10::IValue> module_arguments(const torch::jit::Module& module,
                                          const std::vector<at::Tensor>& tensors);

/// The names of the tensors of forward(), argument by argument, and whether it has a default.
struct NamedArgument {
  std::vector<std::string> leaves;
  bool has_default = false;
};
std::vector<NamedArgument> named_arguments(const torch::jit::Module& module);

}  // namespace repquant
