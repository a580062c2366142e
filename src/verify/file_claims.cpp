#include "verify/file_claims.h"

#include "base/sha256.h"
#include "base/text_table.h"
#include "format/validate.h"
#include "recipe/json.h"
#include "verify/subject.h"

namespace repquant {

std::string look_at_archive(const std::string& path, bool trusted) {
  validate_archive(path, trusted);  // sizes first: they bound what is read next
  const ArchiveSize size = check_checksums(path);
  return counted(size.entries, "entry", "entries") + " of " +
         format_bytes(static_cast<double>(size.bytes)) +
         " have their checksums; sizes, stored values and code are within bounds; SHA-256 " +
         sha256_of_file(path);
}

std::string look_at_format(const ArtifactInfo& info) {
  if (info.minor_version > kArtifactMinorVersion) {
    refute("the format is " + std::to_string(info.major_version) + "." +
           std::to_string(info.minor_version) + ", newer than this program's " +
           std::to_string(kArtifactMajorVersion) + "." + std::to_string(kArtifactMinorVersion) +
           ", so that not all of it can be looked at");
  }
  parse_recipe(info.recipe, "recipe of the artifact");
  return "version " + std::to_string(info.major_version) + "." +
         std::to_string(info.minor_version) + ", written by repquant " + info.tool_version +
         " with LibTorch " + info.libtorch_version + ", recipe " + info.recipe_name;
}

}  // namespace repquant
