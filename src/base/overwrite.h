// Files of the user that are never replaced in passing.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <span>
#include <string_view>

namespace repquant {

/// A file or folder, and what to call it: "model", "calibration data".
struct NamedPath {
  const char* name = "";
  std::filesystem::path path{};  // empty: none
};

/// Throws Error kUsage if writing `target` would replace one of these files, or a file in one of
/// these folders; `force` does not allow that.
void check_no_input(const std::filesystem::path& target, std::initializer_list<NamedPath> inputs);

/// Throws Error kUsage if two of the files that a command writes are the same one.
void check_distinct(std::span<const NamedPath> outputs);

/// check_output() for a file that is replaced without being asked: one that is there has to be
/// empty or to begin with `beginning`, as those of earlier runs do. Throws Error kFile.
void check_own_output(const std::filesystem::path& target, std::string_view beginning);

}  // namespace repquant
