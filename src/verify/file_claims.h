// Claims about the file as such, which need nothing but it.
#pragma once

#include <string>

#include "repquant/artifact.h"

namespace repquant {

/// Every entry has its checksum (LibTorch's reader does not look at it), and validate_archive()
/// finds nothing. `trusted`: as there. Throws Error kFile and kUnsupported as that.
std::string look_at_archive(const std::string& path, bool trusted);

/// The format's version is one that this program writes, and the recipe in the file can be read.
/// Throws Error kUsage as parse_recipe().
std::string look_at_format(const ArtifactInfo& info);

}  // namespace repquant
