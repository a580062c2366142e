// The artifact's description of itself: written by quantize, read by inspect and by loaders.
#pragma once

#include <string>

#include "base/json_text.h"
#include "repquant/artifact.h"

namespace repquant {

/// "written_by" of the description.
Json written_json(const ArtifactInfo& info);

/// Its keys from "calibration" to "portable", which inspect shows as they are.
Json results_json(const ArtifactInfo& info);

std::string artifact_to_json(const ArtifactInfo& info);

/// The inverse, for untrusted text. Throws Error kFile and kUnsupported as read_artifact().
ArtifactInfo artifact_from_json(const std::string& text, const std::string& source);

}  // namespace repquant
