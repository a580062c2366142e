#include "base/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/text_table.h"
#include "repquant/error.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;

Error file_error(std::string what, const fs::path& path, std::string got, std::string hint = "") {
  return Error(ErrorKind::kFile, {.what = std::move(what),
                                  .where = path.string(),
                                  .got = std::move(got),
                                  .hint = std::move(hint)});
}

Error system_error(std::string what, const fs::path& path, int code) {
  const char* hint = code == ENOSPC || code == EDQUOT ? "free some space or choose another folder"
                     : code == EACCES || code == EROFS || code == EPERM
                         ? "choose a folder that you can write to"
                         : "";
  return file_error(std::move(what), path, std::strerror(code), hint);
}

Error exists_error(const fs::path& target) {
  return file_error("output exists already", target, "a file",
                    "`force` replaces it, `output` chooses another name");
}

fs::path folder_of(const fs::path& target) {
  const fs::path folder = target.parent_path();
  return folder.empty() ? fs::path(".") : folder;
}

// A descriptor that closes itself.
class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

void flush_to_disk(const fs::path& path, int flags) {
  const Descriptor file(path, flags);
  if (file.get() < 0 || ::fsync(file.get()) != 0) {
    throw system_error("cannot write output", path, errno);
  }
}

// The file itself behind a symbolic link, there or not, so that the link stays a link.
fs::path behind_link(const fs::path& target) {
  constexpr int kMostLinks = 40;  // as Linux
  fs::path path = target;
  std::error_code failed;
  for (int i = 0; i < kMostLinks && fs::is_symlink(fs::symlink_status(path, failed)); ++i) {
    const fs::path next = fs::read_symlink(path, failed);
    if (failed) break;
    path = next.is_absolute() ? next : folder_of(path) / next;
  }
  return path;
}

// What temporary files of a target begin with; a name of up to 255 bytes leaves room for the rest.
std::string temporary_stem(const fs::path& target) {
  constexpr std::size_t kLongestName = 200;
  return "." + target.filename().string().substr(0, kLongestName) + ".";
}

// True for "<stem><digits>-<digits>.tmp".
bool is_temporary_name(const std::string& name, const std::string& stem) {
  constexpr std::string_view kEnding = ".tmp";
  if (!name.starts_with(stem) || !name.ends_with(kEnding)) return false;
  if (name.size() < stem.size() + kEnding.size()) return false;
  const std::string number = name.substr(stem.size(), name.size() - stem.size() - kEnding.size());
  return !number.empty() && number.find_first_not_of("0123456789-") == std::string::npos;
}

// Removes what killed processes have left for this target. Best effort: what cannot be looked at
// stays.
void remove_abandoned(const fs::path& target) {
  const std::string stem = temporary_stem(target);
  std::error_code failed;
  fs::directory_iterator entry(folder_of(target), failed);
  for (; !failed && entry != fs::directory_iterator(); entry.increment(failed)) {
    if (!is_temporary_name(entry->path().filename().string(), stem)) continue;
    const Descriptor file(entry->path(), O_RDONLY);
    if (file.get() >= 0 && ::flock(file.get(), LOCK_EX | LOCK_NB) == 0) {
      ::unlink(entry->path().c_str());
    }
  }
}

// The file that is locked is still the one of that name.
bool is_linked(const Descriptor& file, const fs::path& path) {
  struct stat opened {};
  struct stat named {};
  return ::fstat(file.get(), &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
         opened.st_ino == named.st_ino;
}

struct Temporary {
  fs::path path;
  std::shared_ptr<const Descriptor> lock;
};

// Makes a new file beside `target` that no other process uses.
Temporary make_temporary(const fs::path& target) {
  const std::string stem = temporary_stem(target) + std::to_string(::getpid());
  for (int attempt = 0; attempt < 1000; ++attempt) {
    fs::path path = folder_of(target) / (stem + "-" + std::to_string(attempt) + ".tmp");
    auto file = std::make_shared<const Descriptor>(path, O_WRONLY | O_CREAT | O_EXCL);
    if (file->get() < 0 && errno == EEXIST) continue;
    if (file->get() < 0) throw system_error("cannot create output", target, errno);
    // A file system without locks: then nobody can take the file for an abandoned one either.
    static_cast<void>(::flock(file->get(), LOCK_EX | LOCK_NB));
    // Between its making and its lock another process may have taken it for one.
    if (is_linked(*file, path)) return {std::move(path), std::move(file)};
  }
  throw file_error("cannot create output", target, "no free temporary name");
}

}  // namespace

void check_output(const fs::path& target, bool force) {
  if (target.filename().empty()) {
    throw file_error("output is not a file name", target, "a folder", "add a file name");
  }
  std::error_code failed;
  const fs::file_status status = fs::status(target, failed);
  if (status.type() == fs::file_type::none) {  // a name that is too long, links in a circle
    throw file_error("output cannot be looked at", target, failed.message(), "choose another name");
  }
  if (fs::is_directory(status)) {
    throw file_error("output is a folder", target, "a folder", "add a file name");
  }
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    throw file_error("output is not a regular file", target, "a device, pipe or socket");
  }
  if (fs::exists(status) && !force) throw exists_error(target);
  const fs::path folder = folder_of(behind_link(target));
  if (!fs::is_directory(folder, failed)) {
    throw file_error("folder of the output does not exist", target, "no folder " + folder.string(),
                     "create it first");
  }
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    throw system_error("cannot write into the folder of the output", target, errno);
  }
}

void check_folder(const fs::path& folder) {
  // Only making it shows whether it can be made: /proc, quotas, names that are too long.
  std::vector<fs::path> missing, made;  // from the inside out, from the outside in
  std::error_code failed, ignored;
  fs::path above = fs::absolute(folder, failed);
  while (!failed && !fs::exists(above, failed) && !failed) {
    missing.push_back(above);
    above = above.parent_path();
  }
  for (auto path = missing.rbegin(); path != missing.rend() && !failed; ++path) {
    if (fs::create_directory(*path, failed)) made.push_back(*path);
  }
  const bool other = !failed && !fs::is_directory(folder, ignored);
  if (!failed && ::access(folder.c_str(), W_OK | X_OK) != 0) {
    failed.assign(errno, std::generic_category());
  }
  for (auto path = made.rbegin(); path != made.rend(); ++path) fs::remove(*path, ignored);
  if (other) throw file_error("not a folder", folder, "a file", "choose another name");
  if (failed) throw system_error("cannot write into the folder", folder, failed.value());
}

void check_room(const fs::path& target, std::uint64_t bytes) {
  const auto fail = [&](std::uint64_t room, const std::string& what, const char* hint) {
    throw file_error("there is no room for the output", target,
                     what + " of " + counted(room, "byte") + ", where at least " +
                         std::to_string(bytes) + " are needed",
                     hint);
  };
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < bytes) {
    fail(limit.rlim_cur, "a limit of this process (ulimit -f)", "raise the limit");
  }
  std::error_code failed;
  const fs::space_info space = fs::space(folder_of(behind_link(target)), failed);
  if (!failed && space.available < bytes) {
    fail(space.available, "a disk with room", "free some space or choose another folder");
  }
}

AtomicFile::AtomicFile(const fs::path& target, bool force)
    : target_(behind_link(target)), force_(force) {
  check_output(target, force);
  remove_abandoned(target_);
  Temporary made = make_temporary(target_);
  temporary_ = std::make_unique<TemporaryPath>(std::move(made.path));
  lock_ = std::move(made.lock);
}

void AtomicFile::write(std::string_view bytes) {
  const Descriptor file(temporary(), O_WRONLY | O_APPEND);
  if (file.get() < 0) throw system_error("cannot write output", target_, errno);
  while (!bytes.empty()) {
    const ssize_t done = ::write(file.get(), bytes.data(), bytes.size());
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) throw system_error("cannot write output", target_, errno);
    bytes.remove_prefix(static_cast<std::size_t>(done));
  }
}

void AtomicFile::commit() {
  flush_to_disk(temporary(), O_RDONLY);
  int status = 0;
  if (force_) {
    status = ::rename(temporary().c_str(), target_.c_str());
  } else {
    status =
        ::renameat2(AT_FDCWD, temporary().c_str(), AT_FDCWD, target_.c_str(), RENAME_NOREPLACE);
    if (status != 0 && (errno == EINVAL || errno == ENOSYS)) {  // the file system cannot do that
      std::error_code failed;
      if (fs::exists(target_, failed)) throw exists_error(target_);
      status = ::rename(temporary().c_str(), target_.c_str());
    }
  }
  if (status != 0) {
    if (errno == EEXIST) throw exists_error(target_);
    throw system_error("cannot rename output", target_, errno);
  }
  temporary_->keep();
  // The name is durable once its folder is. Not every file system supports this, and the file is
  // whole either way, so a failure here is none of the output.
  const Descriptor folder(folder_of(target_), O_RDONLY | O_DIRECTORY);
  if (folder.get() >= 0) static_cast<void>(::fsync(folder.get()));
}

void write_file(const fs::path& target, std::string_view bytes, bool force) {
  AtomicFile file(target, force);
  file.write(bytes);
  file.commit();
}

}  // namespace repquant
