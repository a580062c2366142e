#include "repquant/quantize.h"

#include <filesystem>

#include "base/atomic_file.h"
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

/// What can be refused before any work.
void check_options(const QuantizeOptions& options) {
  if (options.mixed) check_mixed(*options.mixed, options.recipe);
  require_samples(options.calib);
  std::error_code code;
  if (fs::equivalent(options.model, options.output, code)) {
    throw Error(ErrorKind::kUsage, {.what = "the output would replace the model",
                                    .where = options.output,
                                    .hint = "name another file as `output`"});
  }
  check_archive(options.model);
  check_output(options.output, options.force);
}

void check_coverage(const PreparedRun& run, const QuantizeOptions& options) {
  const Coverage coverage = coverage_of(run.model, run.search, run.bits, options.recipe);
  check_coverage(coverage, options.strict, options.min_coverage);
  require_quantized(run.search, run.bits);
}

void warn_of_few_samples(const PreparedRun& run, const Recipe& recipe, const Observer& observer) {
  if (recipe.calibration.samples <= run.calibration.samples) return;
  observer.warn("only " + std::to_string(run.calibration.samples) + " calibration samples, " +
                std::to_string(recipe.calibration.samples) + " were asked for");
}

}  // namespace

QuantizeReport quantize(const QuantizeOptions& options, const Observer& observer) {
  CalibrationCache cache;
  return quantize(options, observer, cache);
}

QuantizeReport quantize(const QuantizeOptions& given, const Observer& observer,
                        CalibrationCache& cache) {
  QuantizeOptions options = given;  // whose recipe gets the bits of the sites
  check_options(options);
  // Fits on this thread must not depend on the number of threads either; samples, rows and heads
  // are what runs side by side.
  const OperatorThreads one_thread(1);
  PreparedRun run = prepare({.model = options.model,
                             .samples = options.calib,
                             .preset = options.preset,
                             .threads = options.threads},
                            options.recipe, observer, cache);
  check_coverage(run, options);
  warn_of_few_samples(run, options.recipe, observer);

  if (options.mixed && options.mixed->search) return search_bits(run, options, observer);
  std::optional<MixedReport> chosen;
  if (options.mixed) {
    begin_phase(observer, "rank", run.search.sites.size());
    const MixedBits mixed = choose_mixed_bits(run, options, observer);
    options.recipe = mixed.recipe;
    chosen = mixed.report;
  }
  const SweepResult sweep = sweep_prepared(run, options, observer);
  return write_prepared(std::move(run), options, sweep, chosen, observer);
}

}  // namespace repquant
