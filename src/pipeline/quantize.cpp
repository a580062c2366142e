#include "repquant/quantize.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <utility>
#include <vector>

#include "artifact/check.h"
#include "base/atomic_file.h"
#include "base/clock.h"
#include "base/overwrite.h"
#include "base/text_table.h"
#include "data/preprocess.h"
#include "evaluate/model_file.h"
#include "fit/failure.h"
#include "fit/hold_back.h"
#include "pipeline/allocate_bits.h"
#include "pipeline/calibration_cache.h"
#include "pipeline/coverage.h"
#include "pipeline/fit_and_write.h"
#include "pipeline/judge.h"
#include "pipeline/memory_limits.h"
#include "pipeline/prepare.h"
#include "pipeline/search_bits.h"
#include "repquant/error.h"
#include "tensor/parallel.h"
#include "tensor/products.h"

namespace repquant {
namespace {

/// Bytes that an artifact surely has: half of what its codes would take if all of the file were
/// float32 weights.
std::uint64_t smallest_artifact(const QuantizeOptions& options) {
  constexpr std::uint64_t kNarrowest = 2;
  const std::uint64_t bits = options.bit_allocation
                                 ? kNarrowest
                                 : static_cast<std::uint64_t>(options.recipe.bits.weight_bits);
  return std::filesystem::file_size(options.model) * bits / 64;
}

constexpr int kJudgedOneIn = 8;

/// How many of the samples that are drawn judge. Random numbers have nothing to tell. Throws Error
/// kUsage where none do and a bound asks for it.
int judging_samples(int drawn, const QuantizeOptions& options) {
  const bool random = std::holds_alternative<Synthetic>(options.calib);
  const int most = random ? 0 : options.recipe.calibration.hold_back;
  const int count = std::min(most, drawn / kJudgedOneIn);
  if (count == 0 && (options.min_sqnr_db || options.min_agreement > 0)) {
    throw Error(ErrorKind::kUsage, {.what = "no calibration samples are held back to judge by",
                                    .where = options.min_sqnr_db ? "`min_sqnr`" : "`min_agreement`",
                                    .expected = "at least " + std::to_string(kJudgedOneIn) +
                                                " samples, and `calibration.hold_back` above 0",
                                    .got = counted(drawn, "sample") + ", of which at most " +
                                           std::to_string(most) + " are held back"});
  }
  return count;
}

/// Of callers that are no command line.
void check_bounds(const QuantizeOptions& options) {
  constexpr double kMost = std::numeric_limits<double>::max();
  const auto check = [](double value, double least, double most, const char* setting,
                        const char* expected) {
    if (std::isfinite(value) && value >= least && value <= most) return;
    throw Error(ErrorKind::kUsage, {.what = "a bound out of range",
                                    .where = setting,
                                    .expected = expected,
                                    .got = format_significant(value, 6)});
  };
  check(options.min_coverage, 0.0, 1.0, "`min_coverage`", "a share from 0 to 1");
  check(options.min_agreement, 0.0, 1.0, "`min_agreement`", "a share from 0 to 1");
  check(options.min_sqnr_db.value_or(0.0), -kMost, kMost, "`min_sqnr`", "a number of dB");
  if (!options.bit_allocation || !options.bit_allocation->search) return;
  check(options.bit_allocation->search->time_limit_seconds, 0.0, kMost, "`time_limit`",
        "seconds, 0 for no limit");
}

/// Checkpoints among the samples would be taken for some. Throws Error kUsage.
void check_apart(const std::filesystem::path& workdir, const DataPath* data) {
  namespace fs = std::filesystem;
  std::error_code none;
  if (workdir.empty() || data == nullptr || !fs::is_directory(data->path, none)) return;
  const fs::path folder = fs::canonical(data->path, none);
  const fs::path inside = fs::weakly_canonical(workdir, none);
  if (std::mismatch(folder.begin(), folder.end(), inside.begin(), inside.end()).first !=
      folder.end()) {
    return;
  }
  throw Error(ErrorKind::kUsage, {.what = "the checkpoints would lie among the calibration data",
                                  .where = "`workdir`",
                                  .expected = "a folder outside of " + data->path,
                                  .got = workdir.string(),
                                  .hint = "choose another `workdir`"});
}

/// What can be refused before any work.
void check_options(const QuantizeOptions& options) {
  if (options.bit_allocation) check_bit_allocation(*options.bit_allocation, options.recipe);
  require_samples(options.calib);
  check_bounds(options);
  judging_samples(options.recipe.calibration.samples, options);
  const auto* data = std::get_if<DataPath>(&options.calib);
  check_no_input(options.output, {{"model", options.model},
                                  {"calibration data", data != nullptr ? data->path : ""},
                                  {"preset", options.preset},
                                  {"preset", options.model + "." + kPresetFile}});
  check_model_file(options.model, options.trust);
  check_output(options.output, options.force);
  check_apart(options.workdir, data);
  if (!options.workdir.empty()) check_folder(options.workdir);
  check_room(options.output, smallest_artifact(options));
}

void check_coverage(const PreparedRun& run, const QuantizeOptions& options) {
  const Coverage coverage = coverage_of(run.model, run.search, run.bits, options.recipe);
  check_coverage(coverage, options.strict, options.min_coverage);
  require_quantized(run.search, run.bits);
}

/// The sites that `error` blames, with the reasons.
std::vector<FailedSite> blamed_sites(const Error& error) {
  std::vector<FailedSite> sites;
  if (const auto* differ = dynamic_cast<const SitesDiffer*>(&error)) {
    for (const auto& site : differ->sites()) sites.push_back({site.path, site.reason});
  } else if (is_of_one_site(error.kind())) {
    sites.push_back({error.parts().where, error.parts().what});
  }
  return sites;
}

/// Takes back the plans of the sites that `error` names: what has no integer form or fails the
/// self-check stays in floating point. False if it names no site, or none would be left.
bool take_back(FittedSites& fitted, const Error& error) {
  const std::size_t before = fitted.failed.size();
  for (FailedSite& site : blamed_sites(error)) {
    const auto plan =
        std::find_if(fitted.plans.begin(), fitted.plans.end(),
                     [&](const SitePlan& candidate) { return candidate.path == site.path; });
    if (plan == fitted.plans.end()) continue;
    fitted.plans.erase(plan);
    fitted.failed.push_back(std::move(site));
  }
  return fitted.failed.size() > before && !fitted.plans.empty();
}

/// An attempt to write the artifact, whose warnings count only if it succeeds.
class Attempt {
 public:
  explicit Attempt(const Observer& observer) : observer_(observer), own_(observer) {
    own_.warn = [this](const std::string& message) { warnings_.push_back(message); };
  }
  const Observer& observer() const { return own_; }
  void pass_on() const {
    for (const std::string& message : warnings_) observer_.warn(message);
  }

 private:
  const Observer& observer_;
  Observer own_;
  std::vector<std::string> warnings_;
};

void hold_back_to_judge(PreparedRun& run, const QuantizeOptions& options,
                        const Observer& observer) {
  set_apart(run, judging_samples(run.calibration.samples, options), observer);
  if (run.held_back.empty()) judging_samples(0, options);  // nothing does, and a bound may ask
}

void warn_of_few_samples(const PreparedRun& run, const Recipe& recipe, const Observer& observer) {
  if (recipe.calibration.samples <= run.calibration.samples) return;
  observer.warn("only " + counted(run.calibration.samples, "calibration sample") + ", " +
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
  const FastProducts fast_products;  // both sides of every check: sums in one order
  const PrepareOptions source{.model = options.model,
                              .samples = options.calib,
                              .preset = options.preset,
                              .threads = options.threads,
                              .trust = options.trust};
  PreparedRun run = prepare_structure(source, options.recipe, observer, cache);
  judging_samples(samples_drawn(run.source, options.recipe.calibration), options);
  check_coverage(run, options);
  prepare_samples(run, options.recipe, observer, cache);
  options.recipe.calibration.batch_size = run.batch_size;  // the artifact says what was done
  check_coverage(run, options);
  check_run_fits(run, options.recipe.weights);
  check_judged_outputs(run.model, run.calibration.batches.front(), options);
  warn_of_few_samples(run, options.recipe, observer);

  if (options.bit_allocation && options.bit_allocation->search) {
    return search_bits(run, options, observer);
  }
  hold_back_to_judge(run, options, observer);
  std::optional<BitAllocationReport> chosen;
  if (options.bit_allocation) {
    begin_phase(observer, "rank", run.search.sites.size());
    AllocatedBits allocated = allocate_bits(run, options, observer);
    options.recipe = std::move(allocated.recipe);
    chosen = allocated.report;
  }
  FittedRun fitted = fit_prepared(run, options, observer);
  const Clock::time_point start = run.start;
  while (true) {
    Attempt attempt(observer);
    try {
      QuantizeReport report =
          write_prepared(std::move(run), options, fitted, chosen, attempt.observer());
      attempt.pass_on();
      return report;
    } catch (const Error& e) {
      if (!take_back(fitted.sites, e)) {
        attempt.pass_on();
        throw;
      }
    }
    // The failed attempt has used up the model's weights.
    Observer quiet;
    quiet.check_interrupt = observer.check_interrupt;
    run = prepare(source, options.recipe, quiet, cache);
    run.start = start;
    hold_back_to_judge(run, options, quiet);
  }
}

}  // namespace repquant
