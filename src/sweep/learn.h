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
  double loss_before = 0.0;     // of the plans given, on the held-back samples
  double loss_after = 0.0;      // of those kept, never larger
  int steps = 0;                // after which they were found; 0: the plans given
  double output_sqnr_db = 0.0;  // simulated outputs against FP32, on the samples learned from
  std::string problem;          // why nothing could be learned; or empty
};

/// Adam (arXiv 1412.6980) on weights, row scales, biases, input grids and operand scales of all
/// `plans` through the whole quantized model, straight-through gradients (arXiv 1308.3432). The
/// loss is the squared error of the values between blocks relative to the variance of their
/// channels, and a little of the outputs' KL divergence (distillation, arXiv 1503.02531), both
/// against the floating-point model. The plans with the least loss on `held_back` are kept, the
/// given ones among them: neither they nor the learning may have seen these samples. Nothing is
/// learned where none are held back. The result does not depend on `threads`.
/// Throws Error kInterrupted.
LearnResult learn(const Model& model, const std::vector<Site>& sites, const HeldBack& samples,
                  const LearningRecipe& recipe, const LearnOptions& options,
                  std::vector<SitePlan>& plans);

}  // namespace repquant
