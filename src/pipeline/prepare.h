// The stages before the sweep: model, data, sites. Shared by quantize and preview.
#pragma once

#include <vector>

#include "graph/model.h"
#include "graph/site.h"
#include "pipeline/calibration.h"
#include "repquant/recipe.h"

namespace repquant {

/// Loads the model for `inputs` inputs and finds its sites.
/// Throws Error as load_model(); kUnsupported for an artifact of repquant and for a model without
/// any site, with what was seen instead.
struct ModelWithSites {
  Model model;
  SiteSearch search;
};
ModelWithSites load_sites(const std::string& path, std::size_t inputs);

/// The inputs that load_model() kept: all of them are needed.
ModelSignature signature_of(const Model& model);

/// Runs the file as it is and the normalised graph on one batch and compares their outputs: the
/// data must fit the model, and normalisation must not have changed it. Returns the largest
/// difference relative to the largest output.
/// Throws Error kUsage when the model fails on the data, kNumerical for outputs that are not finite,
/// kInternal above 1e-3.
double check_normalized(const Model& model, const std::vector<at::Tensor>& batch);

}  // namespace repquant
