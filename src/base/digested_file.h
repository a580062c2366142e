// Files that begin with a digest of their content.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace repquant {

/// Writes SHA-256 of `bytes` in hexadecimal and then `bytes`, atomically, in the place of an older
/// file. Throws Error kFile.
void write_digested(const std::filesystem::path& path, std::string_view bytes);

struct DigestedFile {
  std::optional<std::string> bytes;  // nothing: the file is damaged
};

/// Nothing where there is no file that can be opened.
std::optional<DigestedFile> read_digested(const std::filesystem::path& path);

}  // namespace repquant
