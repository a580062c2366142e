// Calibration data, or what the model makes of it, that is not finite.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "graph/model.h"
#include "pipeline/calibration.h"
#include "repquant/observer.h"

namespace repquant {

/// Data that is not finite must not end in outputs that are NaN: they would drop out of every
/// comparison in silence. Warns where anything but -inf, as masks have it, is in the data. Throws
/// Error kFile, naming input and sample.
void check_not_finite(const Model& model, const Calibration& calibration, const Observer& observer);

/// Warns of outputs of the model that are NaN in places: no figure counts these.
void warn_of_nan(const std::vector<at::Tensor>& outputs, const Observer& observer);

}  // namespace repquant
