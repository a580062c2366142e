#include "pipeline/search_bits.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/clock.h"
#include "base/text_table.h"
#include "evaluate/metrics.h"
#include "fit/hold_back.h"
#include "fit/plan_hook.h"
#include "graph/results.h"
#include "graph/walker.h"
#include "pipeline/allocate_bits.h"
#include "pipeline/judge.h"
#include "pipeline/memory_limits.h"
#include "pipeline/prepare.h"
#include "repquant/error.h"
#include "tensor/parallel.h"

namespace repquant {
namespace {

constexpr double kStep = 0.25;  // of the average, in bits
constexpr int kOneIn = 4;       // of the samples judges

/// Ends a fit that would exceed the time limit. Not an Error: it never leaves this file.
struct TimeIsUp {};

at::Tensor require_logits(const std::vector<c10::IValue>& outputs) {
  at::Tensor logits = logits_in(output_tensors(outputs));
  if (logits.defined()) return logits;
  throw Error(ErrorKind::kUnsupported,
              {.what = "the model has no output that can be taken as logits",
               .where = "`max_kl`",
               .expected = "a floating-point output of at least two values a row",
               .hint = "choose bits with `target_bits`"});
}

/// Mean KL divergence of the simulation from FP32 on samples that nothing was fitted on.
class Judge {
 public:
  Judge(const PreparedRun& run, const Batches& held_back, int threads)
      : run_(run),
        held_back_(held_back),
        threads_(threads),
        schedule_(*run.model.graph),
        reference_(outputs(nullptr)) {}

  double kl(const std::vector<SitePlan>& plans) const {
    const auto simulated = outputs(plan_hook(run_.search.sites, plans));
    AgreementSums sums;
    for (std::size_t i = 0; i < simulated.size(); ++i) {
      compare_logits(reference_[i], simulated[i], sums);
    }
    return summarize(sums).kl.value().value;
  }

 private:
  std::vector<at::Tensor> outputs(const NodeHook& hook) const {
    std::vector<at::Tensor> result(held_back_.size());
    parallel_for(std::ssize(result), threads_, [&](std::int64_t i) {
      const auto batch = static_cast<std::size_t>(i);
      result[batch] = require_logits(
          run_graph(*run_.model.graph, schedule_, copies_of(held_back_[batch]), hook));
    });
    return result;
  }

  const PreparedRun& run_;
  const Batches& held_back_;
  int threads_;
  Schedule schedule_;
  std::vector<at::Tensor> reference_;
};

/// Averages to try, rising, in steps that are whole quarters of a bit; the last one is `largest`.
std::vector<double> targets_between(const TargetBits& smallest, const TargetBits& largest) {
  const double low = std::max(smallest.weights, smallest.activations);
  const double high = std::max(largest.weights, largest.activations);
  std::vector<double> targets;
  for (int step = static_cast<int>(std::ceil(low / kStep)); step * kStep < high; ++step) {
    targets.push_back(step * kStep);
  }
  targets.push_back(high);
  return targets;
}

[[noreturn]] void fail_single_sample() {
  throw Error(ErrorKind::kUsage, {.what = "too few calibration samples to hold some back",
                                  .where = "`max_kl`",
                                  .expected = "at least two samples, better a hundred",
                                  .got = "one",
                                  .hint = "raise `calibration.samples`"});
}

[[noreturn]] void fail_bound(const BitSearchReport& held_back, double bits) {
  throw Error(ErrorKind::kGate,
              {.what = "no choice of bits keeps the outputs that close",
               .where = "`max_kl`",
               .expected = "a KL divergence of at most " + format_number(held_back.max_kl, 4) +
                           " nats on " + counted(held_back.samples, "held-back calibration sample"),
               .got = format_number(held_back.kl, 4) + " at " + format_number(bits, 2) + " bits",
               .hint = "allow more, calibrate on more samples, or offer more bits with "
                       "`candidates`"});
}

}  // namespace

QuantizeReport search_bits(const PreparedRun& run, const QuantizeOptions& options,
                           const Observer& observer) {
  const BitAllocationOptions& bit_allocation = options.bit_allocation.value();
  const BitSearch& bound = bit_allocation.search.value();
  const std::vector<Site>& sites = run.search.sites;
  PreparedRun fitting = run;
  const int total = run.calibration.samples;
  if (total > 1) set_apart(fitting, std::max(total / kOneIn, 1), observer);
  if (fitting.held_back.empty()) fail_single_sample();
  const auto judging = static_cast<int>(sample_count(fitting.held_back));
  const Judge judge(run, fitting.held_back, options.threads);

  begin_phase(observer, "rank", sites.size());
  const RankedWidths ranked = rank_widths(
      run, fitting.calibration.batches, options.recipe, candidates_of(bit_allocation.candidates),
      spill_place(options.workdir, options.output), options.threads, observer);
  const std::vector<double> targets = targets_between(smallest_average(sites, ranked.choices),
                                                      largest_average(sites, ranked.choices));

  std::optional<QuantizeReport> best;
  std::vector<SiteBits> best_bits;
  Observer limited = observer;
  limited.check_interrupt = [&] {
    observer.check_interrupt();
    const bool limits = bound.time_limit_seconds > 0 && best.has_value();
    if (limits && seconds_since(run.start) > bound.time_limit_seconds) throw TimeIsUp{};
  };

  /// True if the bits of `target` meet the bound; then they are the best so far, and on disk.
  const auto try_target = [&](double target) {
    const Allocation allocation =
        choose_bits(sites, ranked.choices, ranked.table, {target, target});
    if (best && allocation.bits == best_bits) return true;
    QuantizeOptions probe = options;
    probe.recipe = with_bits(options.recipe, sites, allocation.bits);
    if (best) probe.force = true;  // the file there is this run's own
    const FittedRun fitted = fit_prepared(fitting, probe, limited);
    BitAllocationReport report = allocation_report(allocation, target);
    report.held_back = BitSearchReport{
        .max_kl = bound.max_kl, .kl = judge.kl(fitted.sites.plans), .samples = judging};
    const bool kept = report.held_back->kl <= bound.max_kl;
    observer.info(format_number(target, 2) + " bits: KL divergence " +
                  format_number(report.held_back->kl, 4) + " nats on " +
                  counted(judging, "held-back sample") + ", " + (kept ? "within" : "above") + " " +
                  format_number(bound.max_kl, 4));
    if (!kept && !best) fail_bound(*report.held_back, target);
    if (!kept) return false;
    // A copy: the next target needs the weights again.
    best = write_prepared(fitting, probe, fitted, report, limited);
    best_bits = allocation.bits;
    return true;
  };

  try {
    std::size_t too_few = 0, enough = targets.size() - 1;  // [0, too_few) exceed the bound
    try_target(targets[enough]);
    while (too_few < enough) {
      const std::size_t middle = too_few + (enough - too_few) / 2;
      if (try_target(targets[middle])) {
        enough = middle;
      } else {
        too_few = middle + 1;
      }
    }
  } catch (const TimeIsUp&) {
    observer.warn("the time limit ended the search; fewer bits than " +
                  format_number(best->bit_allocation->target_bits, 2) + " may do");
  }
  best->seconds = seconds_since(run.start);
  return *best;
}

}  // namespace repquant
