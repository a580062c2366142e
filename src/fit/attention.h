// Fits the grids of the attention products: q, k, v and the softmax output.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "graph/site.h"
#include "plan/site_plan.h"
#include "repquant/recipe.h"

namespace repquant {

/// A product of two activations. left: [.., T, d] per batch, right: [.., d, S] per batch, as the
/// graph has them. Where axis -3 of both is the heads (site.heads) they get grids of their own.
/// Ranges by the error of the product, of scores by what softmax sees (a constant per row cancels).
/// `by_token`: each token may have a scale, if that loses less.
/// Row weights (float64, per token over all batches; or undefined) as in sensitivity.h.
ScoresPlan fit_scores(const std::vector<at::Tensor>& left, const std::vector<at::Tensor>& right,
                      const ScoresSite& site, int bits, const AttentionRecipe& recipe,
                      bool by_token = false, const at::Tensor& left_weights = {},
                      const at::Tensor& right_weights = {});

/// Whether tokens of the operands of these scores may have scales, as the recipe says of codes of
/// `bits`.
bool may_go_by_token(const torch::jit::Node* scores, int bits, const AttentionRecipe& recipe);

/// Whether a Linear makes up for the mean error of its input: not where its bias only returns what
/// its own rounding moves.
bool makes_up_for_means(const WeightRecipe& recipe);

/// softmax(..) v. value: [.., S, d] per batch. Its channels get grids of their own only where all
/// batches have the same (site.columns). The softmax grid needs no data: its row maximum is 1.
/// Rows of softmax sum to one, so a constant error of V is a constant of the output: with
/// `mean_returns`, what is fitted behind makes up for it, and errors count without their mean.
AttendPlan fit_attend(const std::vector<at::Tensor>& value, const AttendSite& site, int bits,
                      const AttentionRecipe& recipe, bool mean_returns,
                      const at::Tensor& weights = {});

/// Plans in words: "per head"; "log2 softmax grid, 1.5 steps per octave, row maximum; v per head".
std::string describe(const ScoresPlan& plan);
std::string describe(const AttendPlan& plan);

}  // namespace repquant
