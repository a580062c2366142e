#include "pipeline/learn_weights.h"

#include <string>
#include <utility>

#include "base/text_table.h"
#include "fit/site_measure.h"
#include "learn/learn.h"
#include "recipe/json.h"

namespace repquant {

std::optional<LearningReport> learn_weights(FittedSites& fitted, const PreparedRun& run,
                                            const QuantizeOptions& options,
                                            const FitSitesOptions& fit, const Observer& observer) {
  const LearningRecipe& recipe = options.recipe.learning;
  if (recipe.steps == 0 || fitted.plans.empty()) return std::nullopt;
  begin_phase(observer, "learn", static_cast<std::size_t>(recipe.steps));
  LearnOptions learning;
  learning.threads = options.threads;
  learning.images = run.source.dataset && run.source.dataset->holds_images();
  learning.workdir = options.workdir;
  learning.resume = options.resume;
  learning.fingerprint = fit.fingerprint + recipe_to_json(options.recipe);
  learning.on_step = [&](int step) { observer.on_item("", static_cast<std::size_t>(step)); };
  learning.warn = observer.warn;
  learning.check_interrupt = observer.check_interrupt;
  Learned learned = learn(run.model, run.search.sites, fitted.plans,
                          {run.calibration.batches, run.held_back}, recipe, learning);
  LearningReport report{.steps = recipe.steps,
                        .loss_before = learned.loss_before,
                        .loss_after = learned.loss_after,
                        .kept = !learned.plans.empty()};
  if (!learned.problem.empty()) {
    observer.warn("nothing was learned: " + learned.problem);
    return std::nullopt;
  }
  const std::string change = "the loss on held-back samples went from " +
                             format_significant(report.loss_before, 3) + " to " +
                             format_significant(report.loss_after, 3);
  if (!report.kept) {
    observer.warn("what was learned is left out: " + change +
                  "; calibrate on more samples, or take the effort `standard`");
    return report;
  }
  observer.info("learning: " + change);
  fitted.plans = std::move(learned.plans);
  measure_sites(fitted, run.model, run.search, run.calibration.batches, options.recipe, fit);
  return report;
}

}  // namespace repquant
