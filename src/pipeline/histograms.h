// Histograms of what the worst sites read, before and after clipping.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "graph/model.h"
#include "graph/site.h"
#include "plan/site_plan.h"
#include "repquant/quantize.h"

namespace repquant {

/// Of the sites with the lowest SQNR of their own, the worst first: each operand that has a grid,
/// all its values and those of the channel that the grid changes most. Runs the simulation on
/// `batch`, so that sites read what they read in the artifact. Values that are not finite do not
/// count.
std::vector<InputHistogram> input_histograms(const Model& model, const SiteSearch& search,
                                             const std::vector<SitePlan>& plans,
                                             const std::vector<at::Tensor>& batch);

}  // namespace repquant
