// The same recipe, model and calibration data once more: are the bytes the same?
#pragma once

#include <string>

#include "repquant/observer.h"
#include "repquant/verify.h"
#include "verify/subject.h"

namespace repquant {

/// Throws Error kUsage without a reference or calibration data, kUnsupported where another version
/// wrote the artifact or a search chose its bits: what can be refused before the work.
void check_reproducible(const Subject& subject, const VerifyOptions& options);

/// Quantizes the reference again, into a folder of its own that is removed. Bits that were chosen
/// site by site are in the recipe; how they were chosen is not looked at. Throws Error as
/// quantize().
std::string look_at_reproduction(const Subject& subject, const VerifyOptions& options,
                                 const Observer& observer);

}  // namespace repquant
