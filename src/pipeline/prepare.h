// The stages before the sweep: model, data, sites. Shared by quantize, analyze and preview.
#pragma once

#include <vector>

#include "fit/site_bits.h"
#include "graph/model.h"
#include "graph/site.h"
#include "pipeline/calibration.h"
#include "repquant/quantize.h"

namespace repquant {

/// Loads the model for the arrays `given` (empty: not known) and finds its sites.
/// Throws Error as load_model(); kUnsupported for an artifact of repquant and for a model without
/// any site, with what was seen instead.
struct ModelWithSites {
  Model model;
  SiteSearch search;
};
ModelWithSites load_sites(const std::string& path, const std::vector<GivenInput>& given);

/// Throws Error kUsage if the recipe excludes every site.
void require_quantized(const SiteSearch& search, const std::vector<SiteBits>& bits);

/// Before a phase of long work: lets the user stop, and says what comes.
void begin_phase(const QuantizeHooks& hooks, const char* name, std::size_t items);

/// The inputs that load_model() kept: all of them are needed.
ModelSignature signature_of(const Model& model);

/// Runs the file as it is and the normalised graph on one batch and compares their outputs: the
/// data must fit the model, and normalisation must not have changed it. Returns the largest
/// difference relative to the largest output.
/// Throws Error kUsage when the model fails on the data, kNumerical for outputs that are not
/// finite, kInternal above 1e-3.
double check_normalized(const Model& model, const std::vector<at::Tensor>& batch);

}  // namespace repquant
