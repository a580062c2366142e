#include "pipeline/fit_and_write.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/clock.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "base/text_table.h"
#include "fit/hold_back.h"
#include "pipeline/coverage.h"
#include "pipeline/histograms.h"
#include "pipeline/judge.h"
#include "pipeline/learn_weights.h"
#include "pipeline/memory_limits.h"
#include "pipeline/prepare.h"
#include "pipeline/site_report.h"
#include "pipeline/write_artifact.h"
#include "recipe/json.h"
#include "repquant/version.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;

// A quarter of a site's output power is error. ViT-Tiny at w4a4 has no site below 8 dB.
constexpr double kLowSqnrDb = 6.0;

/// What a checkpoint belongs to. The protocol states the preprocessing.
std::string fingerprint(const PreparedRun& run, const Recipe& recipe, const Batches& samples) {
  Recipe fitted = recipe;
  fitted.name = "";
  fitted.effort = Effort::kStandard;
  fitted.learning = {};  // comes behind the sites
  return sha256_of(std::string(kVersion) + "\n" + run.model.source_hash + "\n" +
                   run.source.protocol + "\n" + run.calibration.hash + "\n" +
                   std::to_string(sample_count(samples)) + "\n" + recipe_to_json(fitted));
}

/// Plans carry only what was decided; kinds and sizes come from the sites, joined by path.
std::vector<SiteReport> site_reports(const SiteSearch& search, const FittedSites& fitted) {
  std::vector<SiteReport> reports;
  std::size_t next = 0;
  for (const auto& site : search.sites) {
    if (next < fitted.plans.size() && fitted.plans[next].path == site.path) {
      reports.push_back(report_of(site, fitted.plans[next]));
      ++next;
    } else {
      reports.push_back(report_of(site, SiteBits{.quantized = false}));
      for (const FailedSite& failed : fitted.failed) {
        if (failed.path == site.path) reports.back().note = failed.note();
      }
    }
  }
  return reports;
}

void warn_of_failed_sites(const std::vector<FailedSite>& failed, const Observer& observer) {
  for (const FailedSite& site : failed) {
    observer.warn(site.path + " stays in floating point: " + site.reason);
  }
}

void warn_of_lost_sites(const std::vector<SiteReport>& sites, const Observer& observer) {
  std::vector<const SiteReport*> lost;
  for (const auto& site : sites) {
    const bool quantized = site.weight_bits > 0 || site.activation_bits > 0;
    // One that gives nothing but zeros, as a branch that begins at zero does, has nothing to lose;
    // its bias makes up for errors of others.
    const bool silent = std::isinf(site.own_sqnr_db);
    if (quantized && !silent && site.own_sqnr_db < kLowSqnrDb) lost.push_back(&site);
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
  observer.warn(counted(std::ssize(lost), "site keeps", "sites keep") + " less than " +
                format_number(kLowSqnrDb, 0) + " dB of the output when quantized alone: " + names +
                (lost.size() > kNamed ? " ..." : "") +
                "; give them more bits (`target_bits`, or overrides in a recipe) or leave them in "
                "floating point (`exclude='" +
                lost.front()->path + "'`)");
}

void say_what_goes_by_diagonal(const std::vector<SitePlan>& plans, const Observer& observer) {
  std::vector<const SitePlan*> sites;
  for (const SitePlan& plan : plans) {
    const auto* linear = std::get_if<LinearPlan>(&plan.plan);
    if (linear != nullptr && linear->weight.outcome == kNearestByDiagonal) sites.push_back(&plan);
  }
  if (sites.empty()) return;
  observer.info(counted(std::ssize(sites), "site has", "sites have") +
                " too many inputs for GPTQ and compensation and few rows, so the weight is rounded "
                "to nearest: " +
                sites.front()->path + (sites.size() > 1 ? " ..." : "") +
                "; below 8 bits give it more bits (overrides in a recipe), or up to 16,384 inputs "
                "a row for every four of them (`calibration.samples`)");
}

}  // namespace

FittedRun fit_prepared(const PreparedRun& run, const QuantizeOptions& options,
                       const Observer& observer) {
  const Batches& samples = run.calibration.batches;
  begin_phase(observer, "quantize", run.search.sites.size());
  FitSitesOptions fit;
  fit.threads = options.threads;
  fit.workdir = options.workdir;
  fit.spill = spill_place(options.workdir, options.output);
  fit.resume = options.resume;
  fit.fingerprint = fingerprint(run, options.recipe, samples);
  fit.warn = observer.warn;
  fit.check_interrupt = observer.check_interrupt;
  fit.on_progress = [&observer](const FitProgress& progress) {
    observer.on_item(progress.path, progress.site);
  };
  FittedRun fitted{fit_sites(run.model, run.search, samples, options.recipe, fit)};
  say_what_goes_by_diagonal(fitted.sites.plans, observer);
  fitted.learning = learn_weights(fitted.sites, run, options, fit, observer);
  return fitted;
}

QuantizeReport write_prepared(PreparedRun run, const QuantizeOptions& options,
                              const FittedRun& fitted,
                              const std::optional<BitAllocationReport>& bit_allocation,
                              const Observer& observer) {
  begin_phase(observer, "write", 0);
  QuantizeReport report;
  report.output = options.output;
  report.recipe = options.recipe.name;
  if (options.recipe.norm.granularity != InputGranularity::kPerToken) {
    report.clipping = options.recipe.norm.clipping;
  }
  report.protocol = run.source.protocol;
  report.samples = run.calibration.samples;
  report.synthetic = std::holds_alternative<Synthetic>(options.calib);
  report.coverage =
      coverage_of(run.model, run.search, resolve_bits(run.search.sites, options.recipe),
                  options.recipe, fitted.sites.failed);
  if (!fitted.sites.failed.empty()) {
    check_coverage(report.coverage, options.strict, options.min_coverage);
  }
  report.bit_allocation = bit_allocation;
  report.learning = fitted.learning;
  report.sites = site_reports(run.search, fitted.sites);
  report.fold_deviation = fitted.sites.fold_deviation;
  report.output_sqnr_db = fitted.sites.output_sqnr_db;
  report.fit_seconds = fitted.sites.seconds;
  report.float_seconds = fitted.sites.float_seconds;
  warn_of_failed_sites(fitted.sites.failed, observer);
  warn_of_lost_sites(report.sites, observer);
  if (!run.held_back.empty()) {
    report.judgement = judge({.model = run.model,
                              .search = run.search,
                              .plans = fitted.sites.plans,
                              .fitted = run.calibration.batches,
                              .held_back = run.held_back,
                              .threads = options.threads},
                             options, report, observer);
  }
  if (options.histograms) {
    report.histograms = input_histograms(run.model, run.search, fitted.sites.plans,
                                         run.calibration.batches.front());
  }
  const Clock::time_point start = run.start;
  report.model_bytes = run.model_bytes;
  write_artifact(std::move(run), fitted.sites, options, observer, report);
  report.output_bytes = static_cast<std::int64_t>(fs::file_size(options.output));
  report.peak_memory_bytes = peak_memory_bytes();
  report.seconds = seconds_since(start);
  return report;
}

}  // namespace repquant
