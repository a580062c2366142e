// Weights that a file holds and no operator reads as they are.
#pragma once

#include <ATen/core/Tensor.h>

#include <unordered_set>
#include <vector>

#include "graph/dependence.h"
#include "graph/model.h"

namespace repquant {

class FileWeights {
 public:
  explicit FileWeights(const Model& model);

  /// Parameters of the file that are an operand of `product` once they are cast, moved, repeated or
  /// scaled, by the sizes or types of the inputs and no element of them: a weight. What is looked
  /// up in a table, as relative positions are, is none. `of_inputs`: values that depend on an
  /// element of an input.
  std::vector<at::Tensor> unread_by(const torch::jit::Node* product,
                                    const ValueSet& of_inputs) const;

 private:
  void collect(const torch::jit::Value* value, std::vector<at::Tensor>& weights) const;

  std::unordered_set<const void*> memory_;  // of the file's tensors
};

}  // namespace repquant
