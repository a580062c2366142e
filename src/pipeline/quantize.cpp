#include "repquant/quantize.h"

#include <chrono>
#include <filesystem>

#include "base/atomic_file.h"
#include "base/memory.h"
#include "base/recipe_json.h"
#include "base/sha256.h"
#include "base/text_table.h"
#include "compute/parallel.h"
#include "graph/archive.h"
#include "pipeline/calibration_cache.h"
#include "pipeline/coverage.h"
#include "pipeline/mixed_bits.h"
#include "pipeline/prepare.h"
#include "pipeline/site_report.h"
#include "pipeline/write_artifact.h"
#include "repquant/error.h"
#include "repquant/version.h"
#include "sweep/learn.h"
#include "sweep/sweep.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void check_paths(const QuantizeOptions& options) {
  std::error_code code;
  if (fs::equivalent(options.model, options.output, code)) {
    throw Error(ErrorKind::kUsage, {.what = "the output would replace the model",
                                    .where = options.output,
                                    .hint = "name another file with -o"});
  }
  check_archive(options.model);
  check_output(options.output, options.force);
}

/// What a checkpoint belongs to. The protocol states the preprocessing.
std::string fingerprint(const Model& model, const CalibrationSource& source,
                        const Calibration& calibration, const Recipe& recipe) {
  Recipe swept = recipe;  // what is learned afterwards does not change the sweep
  swept.name = "";
  swept.effort = Effort::kStandard;
  swept.learning = {};
  swept.learning.steps = recipe.learning.steps > 0 ? 1 : 0;  // samples are held back
  return sha256_of(std::string(kVersion) + "\n" + model.source_hash + "\n" + source.protocol +
                   "\n" + calibration.hash + "\n" + recipe_to_json(swept));
}

SweepOptions sweep_options(const QuantizeOptions& options, const QuantizeHooks& hooks,
                           std::string checkpoint_fingerprint) {
  SweepOptions sweep;
  sweep.threads = options.threads;
  sweep.workdir = options.workdir;
  sweep.resume = options.resume;
  sweep.fingerprint = std::move(checkpoint_fingerprint);
  sweep.check_interrupt = hooks.check_interrupt;
  sweep.on_progress = [&hooks](const SweepProgress& progress) {
    if (hooks.on_item) hooks.on_item(progress.path, progress.site);
  };
  return sweep;
}

void learn_plans(const Model& model, const SiteSearch& search, const HeldBack& samples,
                 const CalibrationSource& source, const QuantizeOptions& options,
                 const QuantizeHooks& hooks, SweepResult& sweep) {
  const LearningRecipe& recipe = options.recipe.learning;
  begin_phase(hooks, "learn", static_cast<std::size_t>(recipe.steps));
  LearnOptions learning;
  learning.threads = options.threads;
  learning.images = source.dataset && source.dataset->holds_images();
  learning.check_interrupt = hooks.check_interrupt;
  learning.on_step = [&hooks](int step) {
    if (hooks.on_item) hooks.on_item("steps", static_cast<std::size_t>(step));
  };
  const LearnResult result = learn(model, search.sites, samples, recipe, learning, sweep.plans);
  if (!result.problem.empty()) {
    if (hooks.warn) hooks.warn("nothing learned: " + result.problem);
    return;
  }
  if (result.steps > 0) sweep.output_sqnr_db = result.output_sqnr_db;
  if (!hooks.info) return;
  const std::string losses =
      format_number(result.loss_before, 4) + " to " + format_number(result.loss_after, 4);
  hooks.info(result.steps > 0 ? "learned: loss of held-back samples from " + losses
                              : "learning made held-back samples no better: not used");
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

}  // namespace

QuantizeReport quantize(const QuantizeOptions& options, const QuantizeHooks& hooks) {
  CalibrationCache cache;
  return quantize(options, hooks, cache);
}

QuantizeReport quantize(const QuantizeOptions& given, const QuantizeHooks& hooks,
                        CalibrationCache& cache) {
  QuantizeOptions options = given;  // whose recipe gets the bits of the sites
  const auto start = Clock::now();
  if (options.mixed) check_mixed(*options.mixed, options.recipe);
  check_paths(options);
  // Fits on this thread must not depend on the number of threads either; samples, rows and heads
  // are what runs side by side.
  use_one_thread_per_operator();

  begin_phase(hooks, "load", 0);
  const CalibrationSource& source = cache.open({.data = options.calib,
                                                .sample_shape = options.input_shape,
                                                .preset_file = options.preset,
                                                .model = options.model,
                                                .tokens = options.tokens,
                                                .threads = options.threads});
  auto [model, search] = load_sites(options.model, source.inputs);
  std::vector<SiteBits> bits = resolve_bits(search.sites, options.recipe);
  const Calibration& calibration =
      cache.load(options.recipe.calibration, signature_of(model), hooks.check_interrupt);
  if (hooks.info) hooks.info("calibration: " + source.protocol);

  begin_phase(hooks, "prove", 0);
  check_normalized(model, calibration.batches.front());
  prove_sites(model, search, calibration.batches.front());

  QuantizeReport report;
  report.coverage = coverage_of(model, search, bits, options.recipe);
  check_coverage(report.coverage, options.strict, options.min_coverage);
  require_quantized(search, bits);
  if (options.recipe.calibration.samples > calibration.samples && hooks.warn) {
    hooks.warn("only " + std::to_string(calibration.samples) + " calibration samples, " +
               std::to_string(options.recipe.calibration.samples) + " were asked for");
  }

  if (options.mixed) {
    begin_phase(hooks, "rank", search.sites.size());
    const MixedBits mixed = choose_mixed_bits(model, search, calibration.batches, options, hooks);
    options.recipe = mixed.recipe;
    report.mixed = mixed.report;
    bits = resolve_bits(search.sites, options.recipe);
    report.coverage = coverage_of(model, search, bits, options.recipe);
  }

  // What learning is judged by, the sweep must not have seen either.
  const bool learns = options.recipe.learning.steps > 0;
  const HeldBack samples =
      learns ? hold_back(calibration.batches) : HeldBack{calibration.batches, {}};
  begin_phase(hooks, "quantize", search.sites.size());
  SweepResult sweep = run_sweep(
      model, search, samples.fitted, options.recipe,
      sweep_options(options, hooks, fingerprint(model, source, calibration, options.recipe)));

  if (learns) learn_plans(model, search, samples, source, options, hooks, sweep);

  begin_phase(hooks, "write", 0);
  report.output = options.output;
  report.recipe = options.recipe.name;
  report.clipping = options.recipe.norm.clipping;
  report.protocol = source.protocol;
  report.samples = calibration.samples;
  report.synthetic = options.calib.empty();
  report.sites = site_reports(search, sweep);
  report.fold_deviation = sweep.fold_deviation;
  report.output_sqnr_db = sweep.output_sqnr_db;
  report.sweep_seconds = sweep.seconds;
  report.float_seconds = sweep.float_seconds;
  write_artifact({.options = &options,
                  .model = &model,
                  .search = &search,
                  .sweep = &sweep,
                  .source = &source,
                  .calibration = &calibration,
                  .coverage = &report.coverage},
                 hooks, report);
  report.model_bytes = static_cast<std::int64_t>(fs::file_size(options.model));
  report.output_bytes = static_cast<std::int64_t>(fs::file_size(options.output));
  report.peak_memory_bytes = peak_memory_bytes();
  report.seconds = seconds_since(start);
  return report;
}

}  // namespace repquant
