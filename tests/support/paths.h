// Where tests find the repository and the optional folder of shared models and data.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>

namespace repquant::testing {

/// Root of the repository.
inline std::filesystem::path source_dir() {
  const char* dir = std::getenv("REPQUANT_SOURCE_DIR");
  return dir != nullptr ? std::filesystem::path(dir) : std::filesystem::current_path();
}

/// The shared folder (real models and data), or nothing: the caller then skips its test.
inline std::optional<std::filesystem::path> shared_dir() {
  const char* dir = std::getenv("REPQUANT_SHARED");
  const std::filesystem::path path = dir != nullptr ? dir : source_dir().parent_path() / "shared";
  if (!std::filesystem::is_directory(path)) return std::nullopt;
  return path;
}

}  // namespace repquant::testing
