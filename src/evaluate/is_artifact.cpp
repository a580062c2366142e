#include <algorithm>

#include "data/zip_reader.h"
#include "graph/archive.h"
#include "repquant/artifact.h"
#include "repquant/error.h"

namespace repquant {

bool is_artifact(const std::string& path) {
  const std::string ending = std::string("/extra/") + kArtifactFile;
  try {
    const ZipReader archive(path);
    return std::any_of(archive.names().begin(), archive.names().end(), [&](const auto& name) {
      return name.size() > ending.size() &&
             name.compare(name.size() - ending.size(), ending.size(), ending) == 0;
    });
  } catch (const Error&) {
    return false;  // whoever loads it says what is wrong
  }
}

}  // namespace repquant
