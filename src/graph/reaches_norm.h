// Whether a value is normalised behind an operator without anything being added to it.
#pragma once

namespace torch::jit {
struct Value;
}  // namespace torch::jit

namespace repquant {

/// True if a norm reads rows of `value`, through operators that leave rows of zeros zero. What is
/// added to such a row, however small, comes out of the norm at full size.
bool reaches_norm(const torch::jit::Value* value);

}  // namespace repquant
