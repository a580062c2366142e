// Learning: all plans of a model together, from the floating-point model.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "graph/model.h"
#include "graph/site.h"
#include "plan/site_plan.h"
#include "repquant/recipe.h"
#include "sweep/hold_back.h"

namespace repquant {

struct LearnOptions {
  int threads = 1;
  bool images = false;  // the samples are images, so crops and reflections of them are, too
  std::function<void(int step)> on_step;  // before each step
  std::function<void()> check_interrupt;  // throws Error kInterrupted when the user stopped the run
};

struct LearnResult {
  double loss_before = 0.0;     // of the plans given, on the held-back samples; 0 without
  double loss_after = 0.0;      // of those learned, never larger
  int steps = 0;                // after which they were found; 0: nothing better was
  std::vector<SitePlan> plans;  // learned ones of all sites before the last block; or none
  std::string problem;          // why nothing could be learned; or empty
};

/// Adam (arXiv 1412.6980) on row scales, biases, input grids and operand scales of the `plans`
/// before the last block, each block by its own output (arXiv 2102.05426) in the quantized model,
/// all at once, with straight-through gradients (arXiv 1308.3432). The loss is the squared error of
/// the values at the ends of blocks against the floating-point model, in units of their variance,
/// tokens weighted by the gradient of the outputs (weights_of_squares()). The last block is left
/// out: its only target are the outputs, which few samples soon fit; it should be fitted anew on
/// what the others give now. The parameters with the least loss on `held_back` are kept, where
/// neither they nor the plans may have been fitted to these samples; without any the last ones are.
/// The result does not depend on `threads`. Throws Error kInterrupted.
LearnResult learn(const Model& model, const std::vector<Site>& sites, const HeldBack& samples,
                  const LearningRecipe& recipe, const LearnOptions& options,
                  const std::vector<SitePlan>& plans);

/// How far the outputs under `plans` are from the floating-point ones: squared error relative to
/// their squares, mean over samples, summed over outputs. (Of the KL divergence few samples have
/// most, so that some dozens of them cannot tell a tenth more from a tenth less.)
double output_loss(const Model& model, const std::vector<Site>& sites,
                   const std::vector<SitePlan>& plans, const Batches& samples, int threads);

}  // namespace repquant
