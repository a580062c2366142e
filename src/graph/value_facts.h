// What the graph tells of a value besides its rank, from what computes it and from what reads it.
#pragma once

#include <cstdint>
#include <optional>

namespace torch::jit {
struct Value;
}  // namespace torch::jit

namespace repquant {

/// The size of a tensor's last dimension; nothing if it depends on the model's inputs. What a
/// Linear or a norm of known width reads in the same block has that width, or the model fails.
std::optional<std::int64_t> width_of(const torch::jit::Value* value);

/// True if a tensor is known to be float32: products take both operands in one type, so what a
/// float32 weight multiplies is float32. Weights are of no other floating-point type once a model
/// is loaded.
bool is_float32(const torch::jit::Value* value);

/// True if a tensor is known to be of truth values: a comparison, or what is made of such.
bool is_bool(const torch::jit::Value* value);

}  // namespace repquant
