#include "fit/fit_sites.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <deque>
#include <exception>
#include <iterator>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "fit/checkpoint.h"
#include "fit/failure.h"
#include "fit/output_error.h"
#include "fit/sensitivity.h"
#include "fit/site_bits.h"
#include "fit/site_fit.h"
#include "fit/streams.h"
#include "repquant/error.h"

namespace repquant {
namespace {

class SequentialFit {
 public:
  SequentialFit(const Model& model, const std::vector<Site>& sites, const Batches& batches,
                const Recipe& recipe, const FitSitesOptions& options)
      : sites_(sites),
        options_(options),
        bits_(resolve_bits(sites, recipe)),
        streams_(model, batches, options.threads, options.check_interrupt),
        sensitivities_(sensitivities_of(model, batches, recipe)),
        fit_(sites, bits_, recipe, sensitivities_, streams_,
             {options.threads, options.largest_fold_deviation}) {
    streams_.spill_to(options.spill);
  }

  FittedSites run() {
    std::vector<std::optional<SitePlan>> restored = restore();
    for (std::size_t i = 0; i < sites_.size(); ++i) {
      if (!bits_[i].quantized) continue;
      options_.check_interrupt();
      report(i, sites_[i].path);
      const std::size_t index = plans_.size();
      if (index < restored.size() && restored[index] && restored[index]->path == sites_[i].path) {
        keep(i, *std::move(restored[index]));
      } else if (auto plan = fit_or_leave(i)) {
        keep(i, std::move(*plan));
        save(index, index + 1 < restored.size() ? CheckpointEnd::kLater : CheckpointEnd::kHere);
      }
    }
    report(sites_.size(), "outputs");
    if (plans_.empty() && failure_) std::rethrow_exception(failure_);
    finish();
    return std::move(result_);
  }

 private:
  Sensitivities sensitivities_of(const Model& model, const Batches& batches,
                                 const Recipe& recipe) const {
    if (recipe.weights.sensitivity <= 0) return {};
    return measure_sensitivity(*model.graph, streams_.schedule(), sites_, batches, options_.threads,
                               options_.check_interrupt);
  }

  std::vector<std::optional<SitePlan>> restore() const {
    if (options_.workdir.empty()) return {};
    if (!options_.resume) {
      if (has_checkpoint(options_.workdir)) {
        options_.warn(
            "checkpoints of an earlier run are replaced, which `resume` would go on from: " +
            options_.workdir);
      }
      return {};
    }
    FitState state = read_checkpoint(options_.workdir, options_.fingerprint);
    if (state.plans.empty()) {
      options_.warn("there is no checkpoint to go on from, the fit begins anew: " +
                    options_.workdir);
    }
    for (const auto& file : state.damaged) {
      options_.warn("a checkpoint is damaged, its site is fitted again: " + file);
    }
    return std::move(state.plans);
  }

  /// From now on the quantized stream evaluates the site by `plan`.
  void keep(std::size_t i, SitePlan plan) {
    plans_.push_back(std::move(plan));
    fit_.keep(i, plans_.back());
    streams_.add_plan(sites_[i], plans_.back());
  }

  /// The plan of a site, or nothing where its fit fails: the site stays in floating point, and the
  /// result says why.
  std::optional<SitePlan> fit_or_leave(std::size_t i) {
    advance_to(streams_, sites_[i]);
    try {
      return fit_.fit(i);
    } catch (...) {
      leave(i, reason_of_failure());
    }
    return std::nullopt;
  }

  void leave(std::size_t i, const std::string& reason) {
    if (!failure_) failure_ = std::current_exception();
    if (const torch::jit::Node* norm = fit_.leave(i)) unfold(norm->outputs()[0]->debugName());
    result_.failed.push_back({sites_[i].path, reason});
  }

  /// A norm with a reader in floating point carries no codes: other readers make them themselves.
  void unfold(const std::string& norm) {
    for (SitePlan& plan : plans_) {
      auto* linear = std::get_if<LinearPlan>(&plan.plan);
      if (linear == nullptr || linear->norm != norm) continue;
      linear->norm.clear();
      plan.errors.fold_deviation = 0.0;
      plan.note = plan.note.substr(std::string(kFoldedNote).size());
    }
  }

  void save(std::size_t index, CheckpointEnd end) const {
    if (options_.workdir.empty()) return;
    append_checkpoint(options_.workdir, options_.fingerprint, index, plans_[index], end);
  }

  void report(std::size_t finished, const std::string& path) const {
    options_.on_progress({finished, sites_.size(), path});
  }

  void finish() {
    result_.output_sqnr_db = output_sqnr_db(
        streams_, result_.failed.empty() ? std::string() : result_.failed.front().path);
    result_.plans.assign(std::make_move_iterator(plans_.begin()),
                         std::make_move_iterator(plans_.end()));
    for (const SitePlan& plan : result_.plans) {
      result_.fold_deviation = std::max(result_.fold_deviation, plan.errors.fold_deviation);
    }
    result_.float_seconds = streams_.float_seconds();
    result_.seconds = seconds_since(start_);
  }

  const Clock::time_point start_ = Clock::now();
  const std::vector<Site>& sites_;
  const FitSitesOptions& options_;
  const std::vector<SiteBits> bits_;
  Streams streams_;
  const Sensitivities sensitivities_;
  std::deque<SitePlan> plans_;  // stable addresses: streams and fit point into it
  SiteFit fit_;
  std::exception_ptr failure_;  // of the first site that could not be fitted
  FittedSites result_;
};

}  // namespace

FittedSites fit_sites(const Model& model, const SiteSearch& search, const Batches& batches,
                      const Recipe& recipe, const FitSitesOptions& options) {
  if (batches.empty()) {
    throw Error(ErrorKind::kUsage, {.what = "there is no calibration data",
                                    .hint = "give `calib` a folder of images or an array file"});
  }
  const at::NoGradGuard no_grad;
  return SequentialFit(model, search.sites, batches, recipe, options).run();
}

}  // namespace repquant
