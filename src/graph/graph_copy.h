// A copy of a graph that can be rewritten while the original is read.
#pragma once

#include <memory>
#include <unordered_map>

namespace torch::jit {
struct Block;
struct Graph;
struct Node;
struct Value;
}  // namespace torch::jit

namespace repquant {

/// Nodes and values of a graph and of its copy, side by side.
class GraphCopy {
 public:
  explicit GraphCopy(torch::jit::Graph& original);

  /// The copy of a node or value of the original; throws std::out_of_range for any other.
  torch::jit::Node* node(const torch::jit::Node* original) const { return nodes_.at(original); }
  torch::jit::Value* value(const torch::jit::Value* original) const { return values_.at(original); }

  /// What a value of the copy is a copy of; null if it has come since.
  const torch::jit::Value* original(const torch::jit::Value* copy) const;

  std::shared_ptr<torch::jit::Graph> graph;

 private:
  void pair(torch::jit::Block* from, torch::jit::Block* to);

  std::unordered_map<const torch::jit::Node*, torch::jit::Node*> nodes_;
  std::unordered_map<const torch::jit::Value*, torch::jit::Value*> values_;
  std::unordered_map<const torch::jit::Value*, const torch::jit::Value*> originals_;
};

}  // namespace repquant
