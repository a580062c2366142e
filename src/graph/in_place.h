// Operators that write into their first operand, and what gives the same as a new tensor.
#pragma once

#include <string>

namespace torch::jit {
struct Node;
}  // namespace torch::jit

namespace repquant {

/// True for an operator that writes into its first operand.
bool writes_first(const torch::jit::Node* node);

/// The operator that gives a new tensor: "aten::add" for "aten::add_", "aten::__and__" for
/// "aten::__iand__".
std::string functional_kind(const torch::jit::Node* node);

/// True if an in-place operator gives a tensor of the type that its first operand has when it gives
/// a new one: a float32 tensor that doubles are added to stays float32 in place alone.
bool keeps_type_in_place(const torch::jit::Node* node);

}  // namespace repquant
