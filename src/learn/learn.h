// Learning: the weights of all sites together, from what the floating-point model gives.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "fit/hold_back.h"
#include "graph/model.h"
#include "graph/site.h"
#include "plan/site_plan.h"
#include "repquant/recipe.h"

namespace repquant {

struct LearnOptions {
  int threads = 1;
  bool images = false;      // the samples are images, so crops and reflections of them are, too
  std::string workdir;      // the state goes there now and then; empty: nowhere
  bool resume = false;      // go on from the state in workdir
  std::string fingerprint;  // identifies model, data and recipe; a state of others does not count
  /// What is learned from, of the sites of the plans that are to be beaten; null: those plans.
  const std::vector<SitePlan>* start = nullptr;
  // None may be null.
  std::function<void(int step)> on_step = [](int) {};  // before each step
  std::function<void(const std::string&)> warn = [](const std::string&) {};
  std::function<void()> check_interrupt = [] {};  // throws Error kInterrupted
};

struct Learned {
  // Objective::of_outputs() on the held-back samples, of the plans given and of those learned.
  double loss_before = 0.0;
  double loss_after = 0.0;
  std::vector<SitePlan> plans;  // learned ones, if their loss is smaller; else none
  std::string problem;          // why nothing could be learned; or empty
};

/// Adam (arXiv 1412.6980) on the weights, row factors and biases of all plans at once, with
/// straight-through gradients (arXiv 1308.3432), by the Objective between the quantized and the
/// floating-point model on some of `samples.fitted`, or on variations of images, in each step.
/// Needs samples that are held back: they decide whether the result is better than `plans`, where
/// neither of them may have been fitted to them. The result does not depend on `threads`. Throws
/// Error kInterrupted, and kFile where the state cannot be written.
Learned learn(const Model& model, const std::vector<Site>& sites,
              const std::vector<SitePlan>& plans, const HeldBack& samples,
              const LearningRecipe& recipe, const LearnOptions& options);

}  // namespace repquant
