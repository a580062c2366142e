#include "archive/extra_file.h"

#include "archive/zip_reader.h"

namespace repquant {

std::optional<std::string> read_extra_file(const std::filesystem::path& archive,
                                           const std::string& name, std::uint64_t max_size) {
  const ZipReader reader(archive);
  for (const std::string& entry : reader.names()) {  // they lie in <archive name>/extra/
    const std::size_t slash = entry.find('/');
    if (slash == std::string::npos || entry.substr(slash) != "/extra/" + name) continue;
    const auto bytes = reader.read(entry, max_size);
    return std::string(bytes.begin(), bytes.end());
  }
  return std::nullopt;
}

}  // namespace repquant
