#include "repquant/quantize.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/atomic_file.h"
#include "base/clock.h"
#include "base/memory.h"
#include "graph/archive.h"
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

namespace fs = std::filesystem;
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
  auto [model, search] = load_sites(options.model, source.inputs);
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
  const Prepared prepared{.model = &model,
                          .search = &search,
                          .source = &source,
                          .calibration = &calibration,
                          .start = start};

  if (options.mixed && options.mixed->search) return search_bits(prepared, options, hooks);
  std::optional<MixedReport> chosen;
  if (options.mixed) {
    begin_phase(hooks, "rank", search.sites.size());
    const MixedBits mixed = choose_mixed_bits(model, search, calibration.batches, options, hooks);
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
    ModelWithSites again = load_sites(options.model, source.inputs);
    model = std::move(again.model);
    search = std::move(again.search);
    model.module.reset();
    prove_sites(model, search, calibration.batches.front());
  }
}

}  // namespace repquant
