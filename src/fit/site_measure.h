// What quantized sites lose, measured where the streams have reached them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <vector>

#include "fit/fit_sites.h"
#include "fit/sensitivity.h"
#include "fit/site_errors.h"
#include "fit/streams.h"
#include "graph/site.h"
#include "plan/site_plan.h"
#include "repquant/recipe.h"
#include "tensor/samples.h"

namespace repquant {

/// To where the site is fitted and measured. Not to softmax(..) v: V is seen at the position of
/// q k^T, before any [T, T] value exists.
void advance_to(Streams& streams, const Site& site);

/// Errors of sites on the first batch. Holds references to everything.
class SiteMeasure {
 public:
  SiteMeasure(const std::vector<Site>& sites, const Sensitivities& sensitivities,
              const WeightRecipe& recipe, const Streams& streams)
      : sites_(sites), sensitivities_(sensitivities), recipe_(recipe), streams_(streams) {}

  /// Of a plan for site i; the deviation of its fold stays what it is.
  SiteErrors errors_of(std::size_t i, const SitePlan& plan) const;

 private:
  SiteErrors of_kind(std::size_t i, const LinearSite& site, const SitePlan& plan) const;
  SiteErrors of_kind(std::size_t i, const ScoresSite& site, const SitePlan& plan) const;
  SiteErrors of_kind(std::size_t i, const AttendSite& site, const SitePlan& plan) const;
  SiteErrors of_kind(std::size_t i, const EmbeddingSite& site, const SitePlan& plan) const;
  SiteErrors of_kind(std::size_t i, const GroupedConvolutionSite& site, const SitePlan& plan) const;

  StreamedValue first_of(const torch::jit::Value* value) const;
  /// Which rows of an operand of attention the outputs depend on in the first batch, where `first`
  /// has as many of them: bool, 1 on `axis`, the channels, and on that of heads. Undefined: not
  /// known.
  at::Tensor used_in_first(const torch::jit::Value* operand, const at::Tensor& first,
                           std::int64_t axis) const;

  const std::vector<Site>& sites_;
  const Sensitivities& sensitivities_;
  const WeightRecipe& recipe_;
  const Streams& streams_;
};

/// Measures the errors of all plans, which are not those that were fitted any more, and of the
/// outputs anew. `batches`, `recipe`, `options`: those of fit_sites(). Throws as it does.
void measure_sites(FittedSites& fitted, const Model& model, const SiteSearch& search,
                   const Batches& batches, const Recipe& recipe, const FitSitesOptions& options);

}  // namespace repquant
