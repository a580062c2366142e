// Ranks of values, as far as the graph alone tells.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>

namespace torch::jit {
struct Node;
struct Value;
}  // namespace torch::jit

namespace repquant {

/// The number of dimensions of a tensor; nothing if it depends on the model's inputs.
std::optional<std::int64_t> rank_of(const torch::jit::Value* value);

/// The same of many values of a graph whose operators do not change meanwhile: answers are kept, so
/// asking in the order of the graph finds them in models of any depth.
class Ranks {
 public:
  std::optional<std::int64_t> of(const torch::jit::Value* value);

 private:
  std::unordered_map<const torch::jit::Value*, std::optional<std::int64_t>> known_;
};

/// A constant dimension argument counted from the end: -1 is the last one. A dimension counted from
/// the front needs the rank of `tensor`.
std::optional<std::int64_t> dimension_from_end(const torch::jit::Value* dimension,
                                               const torch::jit::Value* tensor);

/// True if `node` exchanges the last two dimensions and does nothing else.
bool swaps_last_two(const torch::jit::Node* node);

}  // namespace repquant
