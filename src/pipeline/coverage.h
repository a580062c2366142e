// Coverage of a recipe on the sites of a model.
#pragma once

#include <vector>

#include "fit/fit_sites.h"
#include "fit/site_bits.h"
#include "graph/model.h"
#include "graph/site.h"
#include "repquant/coverage.h"
#include "repquant/recipe.h"

namespace repquant {

/// Coverage of the bits `given` (one for each site, see resolve_bits) on the sites of `model`.
/// Sites that `failed` are gaps that the recipe did not ask for, whatever their bits.
Coverage coverage_of(const Model& model, const SiteSearch& search,
                     const std::vector<SiteBits>& given, const Recipe& recipe,
                     const std::vector<FailedSite>& failed = {});

/// Throws Error kGate, with the largest gaps, if `strict` and an operator stays in floating point
/// that the recipe did not ask for, or if the smallest of the shares of parameters,
/// multiply-accumulates and bytes is below `minimum`.
void check_coverage(const Coverage& coverage, bool strict, double minimum);

}  // namespace repquant
