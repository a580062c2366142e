// From plans to a file: lower, save under a temporary name, check, give it its name.
#pragma once

#include <vector>

#include "fit/sweep.h"
#include "graph/model.h"
#include "graph/site.h"
#include "pipeline/calibration.h"
#include "repquant/quantize.h"

namespace repquant {

struct ArtifactInput {
  const QuantizeOptions* options = nullptr;
  const Model* model = nullptr;
  SiteSearch* search = nullptr;
  const SweepResult* sweep = nullptr;
  const CalibrationSource* source = nullptr;
  const Calibration* calibration = nullptr;
  const Coverage* coverage = nullptr;
  bool last_use = true;  // float weights of model and sites are dropped as soon as they can be
};

/// Writes the artifact and fills in what the checks have measured. Throws
/// Error kNumerical, naming the site, when a check fails: nothing is left behind then.
void write_artifact(const ArtifactInput& input, const QuantizeHooks& hooks, QuantizeReport& report);

}  // namespace repquant
