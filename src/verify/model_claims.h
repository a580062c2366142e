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

/// A folded norm of the artifact is the reference's norm with multipliers m and offsets a; the fold
/// that these realise (docs/math.md) changes the outputs of its Linears by at most 1e-3 of the
/// largest, on the first batch of `run`. `run`: of the reference, with samples.
std::string look_at_folds(const Subject& subject, const PreparedRun& run);

/// Fused operators against portable ones, each on the portable form's values, and with `run` whole
/// outputs, in several shapes. `batch`: the model's inputs. Throws Error as load().
std::string look_at_forms(const Subject& subject, const std::vector<at::Tensor>& batch,
                          const PreparedRun* run);

}  // namespace repquant
