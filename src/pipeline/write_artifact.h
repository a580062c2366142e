// From plans to a file: lower, save under a temporary name, check, give it its name.
#pragma once

#include "fit/fit_sites.h"
#include "pipeline/prepare.h"
#include "repquant/quantize.h"

namespace repquant {

/// Writes the artifact of a fit to options.output and fills in what the checks have measured.
/// Float weights that nothing but `given` holds are dropped as soon as their integer form exists.
/// Throws Error kNumerical, naming the site, when a check fails: nothing is left behind then.
void write_artifact(PreparedRun&& given, const FittedSites& fitted, const QuantizeOptions& options,
                    const Observer& observer, QuantizeReport& report);

}  // namespace repquant
