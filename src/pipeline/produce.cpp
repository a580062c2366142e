#include "pipeline/produce.h"

#include <algorithm>
#include <filesystem>

#include "base/clock.h"
#include "base/memory.h"
#include "base/recipe_json.h"
#include "base/sha256.h"
#include "base/text_table.h"
#include "pipeline/coverage.h"
#include "pipeline/prepare.h"
#include "pipeline/site_report.h"
#include "pipeline/write_artifact.h"
#include "repquant/version.h"
#include "sweep/hold_back.h"
#include "sweep/learn.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;

// A quarter of a site's output power is error. ViT-Tiny at w4a4 has no site below 8 dB.
constexpr double kLowSqnrDb = 6.0;
// An eighth of the samples judges what was learned.
constexpr std::int64_t kOneInForLearning = 8;

/// What a checkpoint belongs to. The protocol states the preprocessing.
std::string fingerprint(const Prepared& prepared, const Recipe& recipe, const Batches& samples) {
  Recipe swept = recipe;  // what is learned afterwards does not change the sweep
  swept.name = "";
  swept.effort = Effort::kStandard;
  swept.learning = {};
  return sha256_of(std::string(kVersion) + "\n" + prepared.model->source_hash + "\n" +
                   prepared.source->protocol + "\n" + prepared.calibration->hash + "\n" +
                   std::to_string(sample_count(samples)) + "\n" + recipe_to_json(swept));
}

/// What the steps of a run share.
struct Run {
  const Prepared& prepared;
  const QuantizeOptions& options;
  const QuantizeHooks& hooks;

  const Model& model() const { return *prepared.model; }
  const std::vector<Site>& sites() const { return prepared.search->sites; }
};

/// A sweep over `samples` with its checkpoints in `workdir`; with `given` plans it fits the rest.
SweepResult sweep_over(const Run& run, const Batches& samples, const std::string& workdir,
                       std::vector<SitePlan> given = {}) {
  begin_phase(run.hooks, given.empty() ? "quantize" : "fit the last block", run.sites().size());
  SweepOptions sweep;
  sweep.threads = run.options.threads;
  sweep.workdir = workdir;
  sweep.resume = run.options.resume;
  sweep.fingerprint = fingerprint(run.prepared, run.options.recipe, samples);
  sweep.given = std::move(given);
  sweep.check_interrupt = run.hooks.check_interrupt;
  sweep.on_progress = [&run](const SweepProgress& progress) {
    if (run.hooks.on_item) run.hooks.on_item(progress.path, progress.site);
  };
  return run_sweep(run.model(), *run.prepared.search, samples, run.options.recipe, sweep);
}

LearnResult learn_from(const Run& run, const HeldBack& samples, const LearningRecipe& recipe,
                       const std::vector<SitePlan>& plans) {
  begin_phase(run.hooks, "learn", static_cast<std::size_t>(recipe.steps));
  LearnOptions learning;
  learning.threads = run.options.threads;
  const auto& dataset = run.prepared.source->dataset;
  learning.images = dataset && dataset->holds_images();
  learning.check_interrupt = run.hooks.check_interrupt;
  learning.on_step = [&run](int step) {
    if (run.hooks.on_item) run.hooks.on_item("steps", static_cast<std::size_t>(step));
  };
  LearnResult learned = learn(run.model(), run.sites(), samples, recipe, learning, plans);
  if (!learned.problem.empty() && run.hooks.warn) {
    run.hooks.warn("nothing learned: " + learned.problem);
  }
  return learned;
}

/// How many steps of learning pay: found on a part of the samples, judged by the outputs of the
/// others. 0: none do.
int steps_that_pay(const Run& run, const HeldBack& samples) {
  if (samples.held_back.empty()) {
    if (run.hooks.warn) {
      run.hooks.warn("nothing learned: a single calibration sample leaves none to judge by");
    }
    return 0;
  }
  std::string workdir = run.options.workdir;
  if (!workdir.empty()) workdir = fs::path(workdir) / "held_back";
  const std::vector<SitePlan> before = sweep_over(run, samples.fitted, workdir).plans;
  LearnResult learned = learn_from(run, samples, run.options.recipe.learning, before);
  if (!learned.problem.empty()) return 0;
  if (learned.steps > 0) {
    const auto loss_of = [&](const std::vector<SitePlan>& plans) {
      return output_loss(run.model(), run.sites(), plans, samples.held_back, run.options.threads);
    };
    const double loss_before = loss_of(before);
    const double loss_after =
        loss_of(sweep_over(run, samples.fitted, workdir, std::move(learned.plans)).plans);
    if (loss_after < loss_before) {
      if (run.hooks.info) {
        run.hooks.info(
            std::to_string(learned.steps) + " steps of learning: error between blocks from " +
            format_number(learned.loss_before, 4) + " to " + format_number(learned.loss_after, 4) +
            ", of the outputs from " + format_number(loss_before, 4) + " to " +
            format_number(loss_after, 4) + " (held-back samples)");
      }
      return learned.steps;
    }
  }
  if (run.hooks.info) run.hooks.info("learning made held-back samples no better: not used");
  return 0;
}

/// Plans carry only what was decided; kinds and sizes come from the sites, joined by path.
std::vector<SiteReport> site_reports(const SiteSearch& search, const SweepResult& sweep) {
  std::vector<SiteReport> reports;
  std::size_t next = 0;
  for (const auto& site : search.sites) {
    if (next < sweep.plans.size() && sweep.plans[next].path == site.path) {
      reports.push_back(report_of(site, sweep.plans[next]));
      ++next;
    } else {
      reports.push_back(report_of(site, SiteBits{.quantized = false}));
    }
  }
  return reports;
}

void warn_of_lost_sites(const std::vector<SiteReport>& sites, const QuantizeHooks& hooks) {
  if (!hooks.warn) return;
  std::vector<const SiteReport*> lost;
  for (const auto& site : sites) {
    const bool quantized = site.weight_bits > 0 || site.activation_bits > 0;
    if (quantized && site.own_sqnr_db < kLowSqnrDb) lost.push_back(&site);
  }
  if (lost.empty()) return;
  std::stable_sort(lost.begin(), lost.end(), [](const SiteReport* a, const SiteReport* b) {
    return a->own_sqnr_db < b->own_sqnr_db;
  });
  constexpr std::size_t kNamed = 3;
  std::string names;
  for (std::size_t i = 0; i < std::min(kNamed, lost.size()); ++i) {
    names += (i > 0 ? ", " : "") + lost[i]->path + " (" + format_number(lost[i]->own_sqnr_db, 1) +
             " dB)";
  }
  hooks.warn(std::to_string(lost.size()) + (lost.size() == 1 ? " site keeps" : " sites keep") +
             " less than " + format_number(kLowSqnrDb, 0) +
             " dB of the output when quantized alone: " + names +
             (lost.size() > kNamed ? " ..." : "") +
             "; give them more bits (--target-bits, or overrides in a recipe) or leave them in "
             "floating point (--exclude '" +
             lost.front()->path + "')");
}

}  // namespace

SweepResult sweep_prepared(const Prepared& prepared, const QuantizeOptions& options,
                           const QuantizeHooks& hooks) {
  const Run run{prepared, options, hooks};
  const Batches& all = prepared.calibration->batches;
  LearningRecipe learning = options.recipe.learning;
  // What learning is judged by, the sweep must not have seen either. What held-back samples decide
  // is then done on all of them.
  if (learning.steps > 0) learning.steps = steps_that_pay(run, hold_back(all, kOneInForLearning));
  SweepResult sweep = sweep_over(run, all, options.workdir);
  if (learning.steps == 0) return sweep;
  LearnResult learned = learn_from(run, {.fitted = all, .held_back = {}}, learning, sweep.plans);
  if (learned.plans.empty()) return sweep;
  SweepResult again = sweep_over(run, all, options.workdir, std::move(learned.plans));
  again.seconds += sweep.seconds;
  return again;
}

QuantizeReport write_prepared(const Prepared& prepared, const QuantizeOptions& options,
                              const SweepResult& sweep, const std::optional<MixedReport>& mixed,
                              const QuantizeHooks& hooks) {
  begin_phase(hooks, "write", 0);
  QuantizeReport report;
  report.output = options.output;
  report.recipe = options.recipe.name;
  report.clipping = options.recipe.norm.clipping;
  report.protocol = prepared.source->protocol;
  report.samples = prepared.calibration->samples;
  report.synthetic = options.calib.empty();
  report.coverage =
      coverage_of(*prepared.model, *prepared.search,
                  resolve_bits(prepared.search->sites, options.recipe), options.recipe);
  report.mixed = mixed;
  report.sites = site_reports(*prepared.search, sweep);
  report.fold_deviation = sweep.fold_deviation;
  report.output_sqnr_db = sweep.output_sqnr_db;
  report.sweep_seconds = sweep.seconds;
  report.float_seconds = sweep.float_seconds;
  warn_of_lost_sites(report.sites, hooks);
  write_artifact({.options = &options,
                  .model = prepared.model,
                  .search = prepared.search,
                  .sweep = &sweep,
                  .source = prepared.source,
                  .calibration = prepared.calibration,
                  .coverage = &report.coverage,
                  .last_use = prepared.last_use},
                 hooks, report);
  report.model_bytes = static_cast<std::int64_t>(fs::file_size(options.model));
  report.output_bytes = static_cast<std::int64_t>(fs::file_size(options.output));
  report.peak_memory_bytes = peak_memory_bytes();
  report.seconds = seconds_since(prepared.start);
  return report;
}

}  // namespace repquant
