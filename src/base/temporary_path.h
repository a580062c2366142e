// Files and folders that must not outlive the process, even where it ends without destructors.
#pragma once

#include <filesystem>

namespace repquant {

/// A file or folder that exists. The destructor removes it with what is in it, unless keep() was
/// called; remove_temporary_paths() removes all that are alive.
class TemporaryPath {
 public:
  explicit TemporaryPath(std::filesystem::path path);
  ~TemporaryPath();
  TemporaryPath(const TemporaryPath&) = delete;
  TemporaryPath& operator=(const TemporaryPath&) = delete;

  const std::filesystem::path& path() const { return path_; }

  /// It has become something that stays, or has another name now.
  void keep();

 private:
  std::filesystem::path path_;
};

/// For a process that is about to end without destructors. None can be made afterwards.
void remove_temporary_paths();

}  // namespace repquant
