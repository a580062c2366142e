// Inputs of forward() that hold several tensors, or none.
#pragma once

#include <ATen/core/ivalue.h>

#include <string>
#include <vector>

namespace torch::jit {
struct Module;
struct Value;
}  // namespace torch::jit

namespace repquant {

/// An input of forward(), or a part of one: its type, and what the graph reads of it.
struct InputForm {
  c10::TypePtr type;
  std::string name;
  /// Of a tuple; of a list of tensors, or of what holds such, as far as single elements are read;
  /// of a dict, those with the keys that are read, in that order.
  std::vector<InputForm> parts;
  std::vector<std::string> keys;  // of a dict: of its parts
  /// A list of which not only single elements are read: it takes all that remains. Its one part is
  /// what each element is like.
  bool whole = false;
  bool has_default = false;
};

InputForm form_of(const torch::jit::Value* input, const std::string& name);

/// The inputs of a module's forward(), without self. Copies and inlines its graph where there are
/// lists or dicts: not to be done for every call.
std::vector<InputForm> input_forms(const torch::jit::Module& module);

/// The names of the tensors that an input consists of: "x" itself, or "obs.0", "obs.1" of a tuple
/// or list, "batch.ids" of a dict, "past.0.1" of what is nested.
std::vector<std::string> leaves_of(const InputForm& input);

/// One value for each of `inputs` from the tensors of all of them in order: tuples, lists and dicts
/// are filled, and numbers are read from tensors whose elements are all equal. Values that already
/// fit are passed on. Throws Error kUsage when the number of tensors does not fit.
std::vector<c10::IValue> structured_inputs(c10::ArrayRef<const torch::jit::Value*> inputs,
                                           const std::vector<c10::IValue>& tensors);

/// The arguments of a module's forward() from such tensors.
std::vector<c10::IValue> module_arguments(const std::vector<InputForm>& forms,
                                          const std::vector<at::Tensor>& tensors);
std::vector<c10::IValue> module_arguments(const torch::jit::Module& module,
                                          const std::vector<at::Tensor>& tensors);

}  // namespace repquant
