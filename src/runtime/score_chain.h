// What stands between the integer scores of an attention and its softmax.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <optional>
#include <vector>

#include "runtime/fuse.h"

namespace repquant {

/// An operator of the chain: the scores come in, and what it computes is a multiple of them, or
/// they and something that does not depend on them, or they in another shape.
struct ScoreStep {
  enum class Kind {
    kNumber,  // multiplied or divided by a number
    kHeads,   // multiplied by a constant for each head
    kAdd,     // a tensor added
    kSubtract,
    kFill,  // a very negative number where a condition holds
    kKeep,  // and where it does not
    kReshape,
  };
  Kind kind;
  torch::jit::Node* node;
  std::size_t operand;                  // of the node: the scores
  torch::jit::Value* other = nullptr;   // what is added, the condition, or the number
  torch::jit::Value* filled = nullptr;  // kFill, kKeep: the very negative number
  at::Tensor heads{};                   // kHeads: float32 [H, 1, 1]
};

/// softmax(scores) with scores = factor * products * scales of tokens + mask, for a factor and a
/// mask that do not depend on the products.
struct ScoreChain {
  std::optional<SubmoduleCall> scores;
  std::vector<ScoreStep> steps;  // in the order of the data
  /// Scales of queries [.., T, 1] and of keys [.., S, 1], which the products are multiplied by
  /// first, and the nodes that do so; or null.
  torch::jit::Value *query_scale = nullptr, *key_scale = nullptr;
  std::vector<torch::jit::Node*> scale_nodes;

  /// How many steps in front only scale the scores.
  std::size_t scalings() const;
  /// Whether the steps behind those only add masks, as they are, and nothing reads a shape of them.
  bool only_masks() const;
};

/// The chain that ends in the scores an Attend reads. None if they come from no call of Scores, or
/// not as a chain has it.
ScoreChain match_scores(const FusionContext& context, const SubmoduleCall& attend);

/// Product of `start` and the chain's numbers, as a value before `before`.
torch::jit::Value* score_factor(const ScoreChain& chain, torch::jit::Value* start,
                                torch::jit::Node* before);

/// `scale` times the chain's constants for heads.
at::Tensor score_scale(const ScoreChain& chain, at::Tensor scale);

/// What the chain makes of scores that are zero; null if it only scales them.
struct ScoreMask {
  torch::jit::Value* value = nullptr;
  /// Nodes that nothing reads once `attend` is gone, to be destroyed in this order.
  std::vector<torch::jit::Node*> unread;
};
ScoreMask score_mask(const ScoreChain& chain, const SubmoduleCall& attend);

}  // namespace repquant
