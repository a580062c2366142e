// Lines of the table of sites.
#pragma once

#include "fit/site_bits.h"
#include "graph/site.h"
#include "plan/site_plan.h"
#include "repquant/quantize.h"

namespace repquant {

/// A site before the fit: kind, bits and sizes.
SiteReport report_of(const Site& site, const SiteBits& bits);

/// A quantized site: also its grids, errors and notes.
SiteReport report_of(const Site& site, const SitePlan& plan);

/// "uniform, per channel, folded", "quadratic", "log-sqrt2, row maximum" ...
std::string grids_of(const SitePlan& plan);

}  // namespace repquant
