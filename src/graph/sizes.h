// Ranks and sizes of the values of a graph, sizes traced to where they come from.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

namespace torch::jit {
struct Graph;
struct Node;
struct Value;
}  // namespace torch::jit

namespace repquant {

/// The size of a dimension: a number, or that of dimension `dimension` (counted from the front) of
/// `tensor`, of which nothing more is known.
struct Size {
  const torch::jit::Value* tensor = nullptr;  // null: `number` is the size
  std::int64_t dimension = 0;
  std::int64_t number = 0;

  /// Two sizes that are equal in every run. Unequal ones may have the same value.
  bool operator==(const Size&) const = default;
};

/// Of all tensors outside of branches and loops whose ranks the graph tells; nothing of others.
/// Dimensions are counted from the front.
class Sizes {
 public:
  explicit Sizes(const torch::jit::Graph& graph);

  std::optional<std::int64_t> rank(const torch::jit::Value* value) const;
  std::optional<Size> of(const torch::jit::Value* value, std::int64_t dimension) const;

  /// A constant dimension argument of an operator on `tensor`, counted from the front.
  std::optional<std::int64_t> dimension(const torch::jit::Value* argument,
                                        const torch::jit::Value* tensor) const;

 private:
  void add(const torch::jit::Value* value, std::optional<std::int64_t> rank);
  std::optional<Size> given(const torch::jit::Value* value, std::int64_t rank,
                            std::int64_t dimension) const;
  std::optional<Size> moved(const torch::jit::Node* node, std::int64_t dimension) const;
  std::optional<Size> part(const torch::jit::Node* unpack, std::int64_t dimension) const;
  std::optional<Size> reshaped(const torch::jit::Node* node, std::int64_t rank,
                               std::int64_t dimension) const;
  std::optional<Size> expanded(const torch::jit::Node* node, std::int64_t rank,
                               std::int64_t dimension) const;
  std::optional<Size> in_list(const torch::jit::Value* list, std::int64_t dimension) const;
  std::optional<Size> broadcast(const torch::jit::Node* node, std::int64_t rank,
                                std::int64_t dimension) const;
  std::optional<Size> product(const torch::jit::Node* node, std::int64_t rank,
                              std::int64_t dimension) const;

  std::unordered_map<const torch::jit::Value*, std::vector<Size>> known_;
};

/// True for an operator that gives as many dimensions of the same sizes as its first operand has,
/// and whose results at one place along a dimension need the operand there alone, but for the
/// dimensions that a norm or a softmax takes together.
bool keeps_sizes(const torch::jit::Node* node);

/// True for an operator that combines tensors element by element, broadcast against each other.
bool is_broadcast(const torch::jit::Node* node);

}  // namespace repquant
