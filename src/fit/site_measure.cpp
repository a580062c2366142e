#include "fit/site_measure.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include "base/overloaded.h"
#include "fit/output_error.h"

namespace repquant {

using torch::jit::Value;

void advance_to(Streams& streams, const Site& site) {
  std::visit(Overloaded{[&](const LinearSite&) { streams.advance_to(begin_of(site)); },
                        [&](const ScoresSite&) { streams.advance_to(site.node); },
                        [&](const GroupedConvolutionSite&) { streams.advance_to(site.node); },
                        [](const AttendSite&) {}, [](const EmbeddingSite&) {}},
             site.kind);
}

SiteErrors SiteMeasure::errors_of(std::size_t i, const SitePlan& plan) const {
  SiteErrors errors =
      std::visit([&](const auto& kind) { return of_kind(i, kind, plan); }, sites_[i].kind);
  errors.fold_deviation = plan.errors.fold_deviation;
  return errors;
}

SiteErrors SiteMeasure::of_kind(std::size_t i, const LinearSite& site, const SitePlan& plan) const {
  const Sensitivity* sensitivity = find_sensitivity(sensitivities_, sites_[i].node->output());
  const bool known = sensitivity != nullptr && sensitivity->used[0].any().item<bool>();
  return linear_errors(site, std::get<LinearPlan>(plan.plan), first_of(sites_[i].node->input(0)),
                       known ? sensitivity->used[0] : at::Tensor());
}

SiteErrors SiteMeasure::of_kind(std::size_t i, const ScoresSite& /*site*/,
                                const SitePlan& plan) const {
  const Value *left = sites_[i].node->input(0), *right = sites_[i].node->input(1);
  const StreamedValue first_left = first_of(left), first_right = first_of(right);
  const at::Tensor rows = used_in_first(left, first_left.quantized, -1);
  const at::Tensor columns = used_in_first(right, first_right.quantized, -2);
  return scores_errors(
      std::get<ScoresPlan>(plan.plan), first_left, first_right,
      rows.defined() && columns.defined() ? rows.logical_and(columns) : at::Tensor());
}

SiteErrors SiteMeasure::of_kind(std::size_t i, const AttendSite& /*site*/,
                                const SitePlan& plan) const {
  const auto* node = sites_[i].node;
  const at::Tensor exact = at::matmul(streams_.first_value(node->input(0), Stream::kFloat),
                                      streams_.first_value(node->input(1), Stream::kFloat));
  // The rows are those of q, which the site in front has.
  const bool behind_scores = i > 0 && std::holds_alternative<ScoresSite>(sites_[i - 1].kind);
  const at::Tensor used =
      behind_scores ? used_in_first(sites_[i - 1].node->input(0), exact, -1) : at::Tensor();
  return attend_errors(std::get<AttendPlan>(plan.plan),
                       streams_.first_scores(sites_[i], Stream::kQuantized),
                       streams_.first_value(node->input(1), Stream::kQuantized), exact, used);
}

SiteErrors SiteMeasure::of_kind(std::size_t i, const EmbeddingSite& site,
                                const SitePlan& plan) const {
  const auto indices = streams_.first_value(sites_[i].node->input(1), Stream::kQuantized);
  return embedding_errors(site, std::get<EmbeddingPlan>(plan.plan), indices);
}

SiteErrors SiteMeasure::of_kind(std::size_t i, const GroupedConvolutionSite& site,
                                const SitePlan& plan) const {
  return convolution_errors(site, std::get<GroupedConvolutionPlan>(plan.plan),
                            first_of(sites_[i].node->input(0)));
}

StreamedValue SiteMeasure::first_of(const Value* value) const {
  return {streams_.first_value(value, Stream::kQuantized),
          streams_.first_value(value, Stream::kFloat)};
}

at::Tensor SiteMeasure::used_in_first(const Value* operand, const at::Tensor& first,
                                      std::int64_t axis) const {
  const at::Tensor weights = operand_weights(find_sensitivity(sensitivities_, operand), first, axis,
                                             {0}, recipe_.sensitivity);
  if (!weights.defined()) return {};
  auto shape = first.sizes().vec();
  const auto dims = std::ssize(shape);
  shape[static_cast<std::size_t>(dims + axis)] = 1;
  if (dims >= 4) shape[static_cast<std::size_t>(dims - 3)] = 1;
  return weights.view(shape) > 0;
}

void measure_sites(FittedSites& fitted, const Model& model, const SiteSearch& search,
                   const Batches& batches, const Recipe& recipe, const FitSitesOptions& options) {
  const at::NoGradGuard no_grad;
  Streams streams(model, batches, options.threads, options.check_interrupt);
  streams.spill_to(options.spill);
  Sensitivities sensitivities;
  if (recipe.weights.sensitivity > 0) {
    sensitivities =
        measure_sensitivity(*model.graph, streams.schedule(), search.sites, {batches.front()},
                            options.threads, options.check_interrupt);
  }
  const SiteMeasure measure(search.sites, sensitivities, recipe.weights, streams);
  fitted.fold_deviation = 0.0;
  std::size_t next = 0;
  for (std::size_t i = 0; i < search.sites.size() && next < fitted.plans.size(); ++i) {
    SitePlan& plan = fitted.plans[next];
    if (plan.path != search.sites[i].path) continue;
    options.check_interrupt();
    advance_to(streams, search.sites[i]);
    plan.errors = measure.errors_of(i, plan);
    fitted.fold_deviation = std::max(fitted.fold_deviation, plan.errors.fold_deviation);
    streams.add_plan(search.sites[i], plan);
    ++next;
  }
  fitted.output_sqnr_db =
      output_sqnr_db(streams, fitted.failed.empty() ? std::string() : fitted.failed.front().path);
}

}  // namespace repquant
