#include "repquant/quantize.h"

#include <algorithm>
#include <utility>

#include "base/atomic_file.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/overwrite.h"
#include "data/preprocess.h"
#include "evaluate/model_file.h"
#include "fit/hold_back.h"
#include "pipeline/calibration_cache.h"
#include "pipeline/coverage.h"
#include "pipeline/fit_and_write.h"
#include "pipeline/mixed_bits.h"
#include "pipeline/prepare.h"
#include "pipeline/search_bits.h"
#include "repquant/error.h"
#include "tensor/parallel.h"

namespace repquant {
namespace {

void check_paths(const QuantizeOptions& options) {
  check_no_input(options.output, {{"model", options.model},
                                  {"calibration data", options.calib},
                                  {"preset", options.preset},
                                  {"preset", options.model + "." + kPresetFile}});
  check_model_file(options.model);
  check_output(options.output, options.force);
}

/// Takes back the plan of the site that `error` names: what has no integer form or fails the
/// self-check stays in floating point. False if it names no site, or the only one.
bool take_back(SweepResult& sweep, const Error& error) {
  const ErrorKind kind = error.kind();
  if (kind != ErrorKind::kNumerical && kind != ErrorKind::kUnsupported &&
      kind != ErrorKind::kInternal) {
    return false;
  }
  const auto plan = std::find_if(
      sweep.plans.begin(), sweep.plans.end(),
      [&](const SitePlan& candidate) { return candidate.path == error.parts().where; });
  if (plan == sweep.plans.end() || sweep.plans.size() == 1) return false;
  sweep.failed.push_back({plan->path, error.parts().what});
  sweep.plans.erase(plan);
  return true;
}

constexpr int kJudgedOneIn = 8;

/// How many samples judge. Random numbers have nothing to tell.
std::int64_t judging_samples(const Calibration& calibration, const QuantizeOptions& options) {
  const int most = options.calib.empty() ? 0 : options.recipe.calibration.hold_back;
  const int count = std::min(most, calibration.samples / kJudgedOneIn);
  if (count == 0 && (options.min_sqnr_db || options.min_agreement > 0)) {
    throw Error(ErrorKind::kUsage, {.what = "no calibration samples are held back to judge by",
                                    .where = options.min_sqnr_db ? "--min-sqnr" : "--min-agreement",
                                    .expected = "at least " + std::to_string(kJudgedOneIn) +
                                                " samples, and --hold-back "
                                                "above 0",
                                    .got = std::to_string(calibration.samples) +
                                           " samples, --hold-back " + std::to_string(most)});
  }
  return count;
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
  return_large_blocks();

  begin_phase(hooks, "load", 0);
  const CalibrationSource& source = cache.open({.data = options.calib,
                                                .sample_shape = options.input_shape,
                                                .preset_file = options.preset,
                                                .model = options.model,
                                                .tokens = options.tokens,
                                                .threads = options.threads});
  auto [model, search] = load_sites(options.model, source.given);
  resolve_bits(search.sites, options.recipe);  // a bad pattern fails here
  const Calibration& calibration =
      cache.load(options.recipe.calibration, signature_of(model), hooks.check_interrupt);
  if (hooks.info) hooks.info("calibration: " + source.protocol);

  begin_phase(hooks, "prove", 0);
  check_normalized(model, calibration.batches.front());
  model.module.reset();
  prove_sites(model, search, calibration.batches.front());

  const std::vector<SiteBits> bits = resolve_bits(search.sites, options.recipe);
  const Coverage coverage = coverage_of(model, search, bits, options.recipe);
  check_coverage(coverage, options.strict, options.min_coverage);
  require_quantized(search, bits);
  if (options.recipe.calibration.samples > calibration.samples && hooks.warn) {
    hooks.warn("only " + std::to_string(calibration.samples) + " calibration samples, " +
               std::to_string(options.recipe.calibration.samples) + " were asked for");
  }
  Prepared prepared{.model = &model,
                    .search = &search,
                    .source = &source,
                    .calibration = &calibration,
                    .start = start};

  if (options.mixed && options.mixed->search) return search_bits(prepared, options, hooks);
  const HeldBack split =
      hold_back_samples(calibration.batches, judging_samples(calibration, options));
  const Calibration fitted{.batches = split.fitted,
                           .hash = calibration.hash,
                           .samples = static_cast<int>(sample_count(split.fitted))};
  prepared.calibration = &fitted;
  prepared.held_back = &split.held_back;
  std::optional<MixedReport> chosen;
  if (options.mixed) {
    begin_phase(hooks, "rank", search.sites.size());
    const MixedBits mixed = choose_mixed_bits(model, search, fitted.batches, options, hooks);
    options.recipe = mixed.recipe;
    chosen = mixed.report;
  }
  SweepResult sweep = sweep_prepared(prepared, options, hooks);
  while (true) {
    try {
      return write_prepared(prepared, options, sweep, chosen, hooks);
    } catch (const Error& e) {
      if (!take_back(sweep, e)) throw;
    }
    // The failed attempt has used up the model's weights.
    ModelWithSites again = load_sites(options.model, source.given);
    model = std::move(again.model);
    search = std::move(again.search);
    model.module.reset();
    prove_sites(model, search, calibration.batches.front());
  }
}

}  // namespace repquant
