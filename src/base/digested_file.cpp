#include "base/digested_file.h"

#include <algorithm>
#include <fstream>
#include <iterator>

#include "base/atomic_file.h"
#include "base/sha256.h"

namespace repquant {

void write_digested(const std::filesystem::path& path, std::string_view bytes) {
  AtomicFile file(path, true);
  file.write(sha256_of(bytes));
  file.write(bytes);
  file.commit();
}

std::optional<DigestedFile> read_digested(const std::filesystem::path& path) {
  constexpr std::size_t kDigest = 64;
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  const std::string content{std::istreambuf_iterator<char>(file), {}};
  std::string bytes = content.substr(std::min(kDigest, content.size()));
  if (content.substr(0, kDigest) != sha256_of(bytes)) return DigestedFile{};
  return DigestedFile{std::move(bytes)};
}

}  // namespace repquant
