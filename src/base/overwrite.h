// Files of the user that are never replaced in passing.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <string_view>

namespace repquant {

/// A file or folder that a command reads, and what to call it: "model", "calibration data".
struct InputPath {
  const char* name = "";
  std::filesystem::path path{};  // empty: none
};

/// Throws Error kUsage if writing `target` would replace one of these files, or a file in one of
/// these folders; `force` does not allow that.
void check_no_input(const std::filesystem::path& target, std::initializer_list<InputPath> inputs);

/// check_output() for a file that is replaced without being asked: one that is there has to be
/// empty or to begin with `beginning`, as those of earlier runs do. Throws Error kFile.
void check_own_output(const std::filesystem::path& target, std::string_view beginning);

}  // namespace repquant
