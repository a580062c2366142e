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
std::string fingerprint(const Prepared& prepared, const Recipe& recipe) {
  Recipe swept = recipe;  // what is learned afterwards does not change the sweep
  swept.name = "";
  swept.effort = Effort::kStandard;
  swept.learning = {};
  swept.learning.steps = recipe.learning.steps > 0 ? 1 : 0;  // samples are held back
  return sha256_of(std::string(kVersion) + "\n" + prepared.model->source_hash + "\n" +
                   prepared.source->protocol + "\n" + prepared.calibration->hash + "\n" +
                   recipe_to_json(swept));
}

SweepOptions sweep_options(const Prepared& prepared, const QuantizeOptions& options,
                           const QuantizeHooks& hooks) {
  SweepOptions sweep;
  sweep.threads = options.threads;
  sweep.workdir = options.workdir;
  sweep.resume = options.resume;
  sweep.fingerprint = fingerprint(prepared, options.recipe);
  sweep.check_interrupt = hooks.check_interrupt;
  sweep.on_progress = [&hooks](const SweepProgress& progress) {
    if (hooks.on_item) hooks.on_item(progress.path, progress.site);
  };
  return sweep;
}

/// Learns all blocks but the last, and fits the last anew on what they give now. Kept if the
/// outputs of the held-back samples are nearer to the floating-point ones.
void learn_plans(const Prepared& prepared, const HeldBack& samples, const QuantizeOptions& options,
                 const QuantizeHooks& hooks, SweepResult& sweep) {
  const LearningRecipe& recipe = options.recipe.learning;
  begin_phase(hooks, "learn", static_cast<std::size_t>(recipe.steps));
  LearnOptions learning;
  learning.threads = options.threads;
  const auto& dataset = prepared.source->dataset;
  learning.images = dataset && dataset->holds_images();
  learning.check_interrupt = hooks.check_interrupt;
  learning.on_step = [&hooks](int step) {
    if (hooks.on_item) hooks.on_item("steps", static_cast<std::size_t>(step));
  };
  const Model& model = *prepared.model;
  const std::vector<Site>& sites = prepared.search->sites;
  LearnResult learned = learn(model, sites, samples, recipe, learning, sweep.plans);
  if (!learned.problem.empty()) {
    if (hooks.warn) hooks.warn("nothing learned: " + learned.problem);
    return;
  }
  if (learned.steps > 0) {
    begin_phase(hooks, "fit the last block", sites.size());
    SweepOptions refit = sweep_options(prepared, options, hooks);
    refit.given = std::move(learned.plans);
    SweepResult again = run_sweep(model, *prepared.search, samples.fitted, options.recipe, refit);
    const auto loss_of = [&](const std::vector<SitePlan>& plans) {
      return output_loss(model, sites, plans, samples.held_back, options.threads);
    };
    const double before = loss_of(sweep.plans), after = loss_of(again.plans);
    if (after < before) {
      again.seconds += sweep.seconds;
      sweep = std::move(again);
      if (hooks.info) {
        hooks.info("learned: error between blocks from " + format_number(learned.loss_before, 4) +
                   " to " + format_number(learned.loss_after, 4) + ", of the outputs from " +
                   format_number(before, 4) + " to " + format_number(after, 4) +
                   " (held-back samples)");
      }
      return;
    }
  }
  if (hooks.info) hooks.info("learning made held-back samples no better: not used");
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
  // What learning is judged by, the sweep must not have seen either.
  const bool learns = options.recipe.learning.steps > 0;
  const Batches& batches = prepared.calibration->batches;
  const HeldBack samples =
      learns ? hold_back(batches, kOneInForLearning) : HeldBack{.fitted = batches, .held_back = {}};
  begin_phase(hooks, "quantize", prepared.search->sites.size());
  SweepResult sweep = run_sweep(*prepared.model, *prepared.search, samples.fitted, options.recipe,
                                sweep_options(prepared, options, hooks));
  if (learns) learn_plans(prepared, samples, options, hooks, sweep);
  return sweep;
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
