// Names within an artifact.
#pragma once

#include <string>
#include <string_view>

#include "repquant/artifact.h"

namespace repquant {

/// Extra file of the archive that holds the artifact's description.
inline constexpr const char* kArtifactFile = "repquant.json";

/// The inverse of name_of(). Throws Error kFile, naming `source`, for a name that there is not.
SiteInput parse_site_input(std::string_view name, const std::string& source);
SiteOutput parse_site_output(std::string_view name, const std::string& source);

}  // namespace repquant
