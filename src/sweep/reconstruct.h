// Block reconstruction: learns weights and scales of a block's sites together.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "graph/site.h"
#include "graph/walker.h"
#include "plan/site_plan.h"
#include "repquant/recipe.h"
#include "sweep/blocks.h"

namespace repquant {

struct ReconstructionProblem {
  const Schedule* schedule = nullptr;
  Block block;
  std::vector<const Site*> sites;       // those of the block that are quantized
  std::vector<SitePlan*> plans;         // theirs; replaced where learning helps
  std::vector<bool> frozen_inputs;      // the site's input grid is shared with another site
  std::vector<Values> inputs;           // per batch: the quantized stream at the block's begin
  std::vector<Values> targets;          // per batch: the floating-point stream at the block's end
  std::vector<at::Tensor> row_weights;  // per batch, float64 [rows] of the output; or empty
  at::Tensor channel_weights;           // float64 [N] of the output, mean 1; or undefined
  int threads = 1;
  std::function<void()> check_interrupt;
};

struct ReconstructionResult {
  double error_before = 0.0;  // weighted mean squared error of the block's output
  double error_after = 0.0;   // never larger: learned plans that do worse are dropped
};

/// Adam (arXiv 1412.6980) on the block's output error, straight-through gradients. Batches are
/// drawn in a seeded order; the result does not depend on `threads`.
ReconstructionResult reconstruct(const ReconstructionProblem& problem,
                                 const ReconstructionRecipe& recipe);

}  // namespace repquant
