// What the graph tells of a value besides its rank, from what computes it and from what reads it.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <unordered_map>

namespace torch::jit {
struct Node;
struct Value;
}  // namespace torch::jit

namespace repquant {

/// The size of a tensor's last dimension; nothing if it depends on the model's inputs. What a
/// Linear or a norm of known width reads in the same block has that width, or the model fails.
std::optional<std::int64_t> width_of(const torch::jit::Value* value);

/// Which tensors are known to be float32, of a graph that does not change meanwhile but for what
/// its questions become: answers are kept, so asking for values in the order of the graph takes no
/// longer for deep models. Products take both operands in one type, so what a float32 weight
/// multiplies is float32. Weights are of no other floating-point type once a model is loaded.
class Float32Values {
 public:
  bool contains(const torch::jit::Value* value) { return contains(value, 0); }

 private:
  bool contains(const torch::jit::Value* value, int depth);
  bool is_given_by(const torch::jit::Node* node, const torch::jit::Value* value, int depth);
  bool is_promoted(const torch::jit::Node* node, int depth);

  std::unordered_map<const torch::jit::Value*, bool> known_;
};

/// The type of an input of the model, or of a view of one, where the calibration data tell it
/// (known while a model is loaded).
std::optional<at::ScalarType> type_of_input(const torch::jit::Value* value);

/// True if a tensor is known to be of truth values: a comparison, such an input, or what is made of
/// these.
bool is_bool(const torch::jit::Value* value);

/// True for a number that is below zero for no input: made of sizes and such constants.
bool is_never_negative(const torch::jit::Value* number);

/// True for a number, truth values or whole numbers: beside a float32 tensor they leave its type as
/// it is.
bool leaves_float32(const torch::jit::Value* operand);

}  // namespace repquant
