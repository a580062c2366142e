// Output files that appear whole or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

#include "base/temporary_path.h"

namespace repquant {

/// Throws Error kFile unless `target` could be written now: its folder exists and is writable, and
/// there is no such file yet, or it is a regular file and `force` is given. For checks before long
/// work; AtomicFile checks again.
void check_output(const std::filesystem::path& target, bool force);

/// Throws Error kFile unless files can be made in `folder`, or it can be made with what is missing
/// above it; nothing of it is left. For checks before long work.
void check_folder(const std::filesystem::path& folder);

/// Throws Error kFile if so many bytes cannot be written to `target`: the disk has less room, or
/// the process may not write files of that size. For checks before long work, with a size that is
/// surely reached.
void check_room(const std::filesystem::path& target, std::uint64_t bytes);

/// A new file that gets its name at commit(). It is written beside its target under a temporary
/// name, by write() or by others through temporary(); without a commit the destructor removes it.
/// Temporary files of the same target that a killed process has left are removed: while a process
/// lives, it holds a lock on its own.
class AtomicFile {
 public:
  /// Makes the empty temporary file. Throws Error kFile as check_output does.
  AtomicFile(const std::filesystem::path& target, bool force);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::filesystem::path& target() const { return target_; }
  const std::filesystem::path& temporary() const { return temporary_->path(); }

  /// Appends `bytes`. Throws Error kFile, for example on a full disk.
  void write(std::string_view bytes);

  /// Flushes the temporary file to disk and gives it its name. Throws Error kFile if that fails or,
  /// without `force`, if the target has come into being meanwhile.
  void commit();

 private:
  std::filesystem::path target_;
  std::unique_ptr<TemporaryPath> temporary_;
  std::shared_ptr<const void> lock_;  // held while the temporary file is one
  bool force_ = false;
};

/// Writes a whole file atomically.
void write_file(const std::filesystem::path& target, std::string_view bytes, bool force);

}  // namespace repquant
