#include "pipeline/learn_weights.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/text_table.h"
#include "fit/hold_back.h"
#include "fit/site_measure.h"
#include "learn/learn.h"
#include "recipe/json.h"

namespace repquant {
namespace {

bool same_sites(const std::vector<SitePlan>& a, const std::vector<SitePlan>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const SitePlan& x, const SitePlan& y) { return x.path == y.path; });
}

/// Plans of the same sites, fitted to some of the samples; none where there are not enough.
std::vector<SitePlan> fit_start(const std::vector<SitePlan>& plans, const PreparedRun& run,
                                const Recipe& recipe, FitSitesOptions fit,
                                const Observer& observer) {
  const Batches& all = run.calibration.batches;
  const std::int64_t count = recipe.learning.start_samples;
  if (count == 0 || sample_count(all) < 2 * count || run.held_back.empty()) return {};
  begin_phase(observer, "fit the start", run.search.sites.size());
  if (!fit.workdir.empty()) fit.workdir += "/start";  // its sites are numbered, too
  fit.fingerprint += " start " + std::to_string(count);
  FittedSites start = fit_sites(run.model, run.search, spread_samples(all, count), recipe, fit);
  // Where other sites fail, the plans of all samples are what there is.
  return same_sites(start.plans, plans) ? std::move(start.plans) : std::vector<SitePlan>();
}

}  // namespace

std::optional<LearningReport> learn_weights(FittedSites& fitted, const PreparedRun& run,
                                            const QuantizeOptions& options,
                                            const FitSitesOptions& fit, const Observer& observer) {
  const LearningRecipe& recipe = options.recipe.learning;
  if (recipe.steps == 0 || fitted.plans.empty()) return std::nullopt;
  const std::vector<SitePlan> start = fit_start(fitted.plans, run, options.recipe, fit, observer);
  begin_phase(observer, "learn", static_cast<std::size_t>(recipe.steps));
  LearnOptions learning;
  learning.threads = options.threads;
  learning.images = run.source.dataset && run.source.dataset->holds_images();
  learning.workdir = options.workdir;
  learning.resume = options.resume;
  learning.fingerprint = fit.fingerprint + recipe_to_json(options.recipe);
  if (!start.empty()) learning.start = &start;
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
