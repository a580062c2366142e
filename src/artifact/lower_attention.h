// Parts of attention that are lowered by themselves: scores whose tokens have scales, and what a
// decoder keeps.
#pragma once

#include <string>

#include "artifact/lower.h"
#include "plan/site_plan.h"

namespace torch::jit {
struct Node;
}  // namespace torch::jit

namespace repquant {

class LoweredGraph;

/// Codes of both operands on scales of rows, the products of these codes, times the scales.
/// `original`: the product, of the model's graph.
LoweredSite lower_token_scores(LoweredGraph& lowered, const torch::jit::Node* original,
                               const ScoresPlan& plan, const std::string& path);

/// The operators of tensor/cache_codes.h, by classes that need no library of ours. Other nodes are
/// left alone.
void lower_cache(LoweredGraph& lowered, const torch::jit::Node* original);

}  // namespace repquant
