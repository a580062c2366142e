// Claims that need the floating-point model, or data to run on.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "pipeline/prepare.h"
#include "verify/subject.h"

namespace repquant {

/// The file has the SHA-256 that the artifact names.
std::string look_at_model(const Subject& subject, const std::string& reference);

/// Fused operators against portable ones, each on the portable form's values, and with `run` whole
/// outputs, in several shapes. `batch`: the model's inputs. Throws Error as load().
std::string look_at_forms(const Subject& subject, const std::vector<at::Tensor>& batch,
                          const PreparedRun* run);

/// The outputs on `batch` against those of the floating-point model: nearly as close as the
/// artifact states, so that it is what was made from that model. `run`: of the reference.
std::string look_at_outputs(const Subject& subject, const std::vector<at::Tensor>& batch,
                            const PreparedRun& run);

}  // namespace repquant
