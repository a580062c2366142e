// The artifact's description of itself: written by quantize, read by inspect and by loaders.
#pragma once

#include <string>

#include "graph/archive.h"
#include "repquant/artifact.h"

namespace repquant {

std::string artifact_to_json(const ArtifactInfo& info);

/// The inverse, for untrusted text. Throws Error kFile and kUnsupported as read_artifact().
ArtifactInfo artifact_from_json(const std::string& text, const std::string& source);

/// From the text files of a loaded archive at `path`. Throws Error as read_artifact().
ArtifactInfo artifact_from_files(const ExtraFiles& files, const std::string& path);

}  // namespace repquant
