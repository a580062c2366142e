#include "archive/zip_reader.h"

#include <zip.h>

#include <algorithm>
#include <system_error>

#include "archive/bytes.h"
#include "base/text_table.h"

namespace repquant {
namespace {

// No deflate stream expands by more than 1032:1, so a larger claim is a lie about the size.
constexpr std::uint64_t kMaxExpansion = 1032;
constexpr std::uint64_t kMaxEntries = std::uint64_t{1} << 20;

std::string open_error(int code) {
  zip_error_t error;
  zip_error_init_with_code(&error, code);
  std::string text = zip_error_strerror(&error);
  zip_error_fini(&error);
  return text;
}

}  // namespace

void ZipReader::Close::operator()(zip* archive) const noexcept { zip_discard(archive); }

void ZipReader::CloseFile::operator()(zip_file* file) const noexcept { zip_fclose(file); }

ZipReader::ZipReader(const std::filesystem::path& path) : path_(path.string()) {
  int code = 0;
  archive_.reset(zip_open(path_.c_str(), ZIP_RDONLY, &code));
  if (!archive_) {
    throw_file_error("cannot read the zip archive (is the file complete?)", path_, {},
                     open_error(code));
  }
  const zip_int64_t count = zip_get_num_entries(archive_.get(), 0);
  if (count < 0 || static_cast<std::uint64_t>(count) > kMaxEntries) {
    throw_file_error("the zip archive has too many entries", path_, std::to_string(kMaxEntries),
                     std::to_string(count));
  }
  for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(count); ++i) {
    const char* name = zip_get_name(archive_.get(), i, ZIP_FL_ENC_RAW);
    if (name == nullptr) throw_file_error("the zip archive has an entry without a name", path_);
    if (!indices_.emplace(name, i).second) {
      throw_file_error("the zip archive has two entries of one name", path_, {}, name);
    }
    names_.emplace_back(name);
  }
  check_sizes();
}

/// Entries lie behind one another, so together they are no larger than the file.
void ZipReader::check_sizes() const {
  std::error_code failed;
  const std::uint64_t most = std::filesystem::file_size(path_, failed);
  if (failed) return;  // not to be told, as of a pipe
  std::uint64_t sum = 0;
  for (const auto& [name, place] : indices_) {
    zip_stat_t info;
    zip_stat_init(&info);
    if (zip_stat_index(archive_.get(), place, 0, &info) != 0) continue;  // size() says so
    if ((info.valid & ZIP_STAT_COMP_SIZE) == 0) continue;
    if (info.comp_size > most - sum) {
      throw_file_error("the entries of the zip archive claim more than the file holds",
                       path_ + ":" + name, "at most " + counted(most, "byte") + " in all");
    }
    sum += info.comp_size;
  }
}

std::optional<std::uint64_t> ZipReader::find(const std::string& name) const {
  const auto found = indices_.find(name);
  if (found == indices_.end()) return std::nullopt;
  return found->second;
}

std::uint64_t ZipReader::index(const std::string& name) const {
  const auto found = find(name);
  if (!found) throw_file_error("the archive lacks an entry", path_, name);
  return *found;
}

std::uint64_t ZipReader::size(const std::string& name) const {
  zip_stat_t info;
  zip_stat_init(&info);
  if (zip_stat_index(archive_.get(), index(name), 0, &info) != 0) {
    throw_file_error("cannot read an archive entry", path_ + ":" + name, {},
                     zip_strerror(archive_.get()));
  }
  constexpr zip_uint64_t kNeeded =
      ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
  if ((info.valid & kNeeded) != kNeeded) {
    throw_file_error("the archive entry has no size", path_ + ":" + name);
  }
  if (info.encryption_method != ZIP_EM_NONE) {
    throw_file_error("the archive entry is encrypted", path_ + ":" + name);
  }
  if (info.comp_method != ZIP_CM_STORE && info.comp_method != ZIP_CM_DEFLATE) {
    throw_file_error("the archive entry has an unknown compression", path_ + ":" + name,
                     "stored or deflated", "method " + std::to_string(info.comp_method));
  }
  const bool plausible = info.comp_method == ZIP_CM_STORE
                             ? info.size == info.comp_size
                             : info.size / kMaxExpansion <= info.comp_size;
  if (!plausible) {
    throw_file_error("the archive entry claims an impossible size", path_ + ":" + name, {},
                     counted(info.size, "byte") + " out of " + std::to_string(info.comp_size));
  }
  return info.size;
}

ZipReader::EntryFile ZipReader::open(const std::string& name) const {
  EntryFile file(zip_fopen_index(archive_.get(), index(name), 0));
  if (!file) {
    throw_file_error("cannot read an archive entry", path_ + ":" + name, {},
                     zip_strerror(archive_.get()));
  }
  return file;
}

void ZipReader::read_bytes(zip_file* file, const std::string& name, std::uint8_t* target,
                           std::uint64_t size) const {
  std::uint64_t done = 0;
  while (done < size) {
    const zip_int64_t count = zip_fread(file, target + done, size - done);
    if (count <= 0) {
      throw_file_error("the archive entry is truncated or corrupt", path_ + ":" + name,
                       counted(size, "byte"),
                       counted(done, "byte") + " (" + zip_file_strerror(file) + ")");
    }
    done += static_cast<std::uint64_t>(count);
  }
}

void ZipReader::read(const std::string& name, void* target, std::uint64_t size) const {
  const EntryFile file = open(name);
  read_bytes(file.get(), name, static_cast<std::uint8_t*>(target), size);
  check_end(file.get(), name);
}

void ZipReader::check_end(zip_file* file, const std::string& name) const {
  std::uint8_t extra = 0;
  const zip_int64_t rest = zip_fread(file, &extra, 1);
  if (rest == 0) return;
  throw_file_error("the archive entry is corrupt", path_ + ":" + name, {},
                   rest < 0 ? zip_file_strerror(file) : "more data than its size",
                   "copy the file again, or make it again");
}

void ZipReader::check(const std::string& name) const {
  constexpr std::uint64_t kChunk = std::uint64_t{1} << 20;
  std::uint64_t left = size(name);
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(std::min(left, kChunk)));
  const EntryFile file = open(name);
  for (; left > 0; left -= std::min(left, kChunk)) {
    read_bytes(file.get(), name, bytes.data(), std::min(left, kChunk));
  }
  check_end(file.get(), name);
}

std::vector<std::uint8_t> ZipReader::read_start(const std::string& name, std::uint64_t most) const {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(std::min(size(name), most)));
  read_bytes(open(name).get(), name, bytes.data(), bytes.size());
  return bytes;
}

std::vector<std::uint8_t> ZipReader::read(const std::string& name, std::uint64_t max_size) const {
  const std::uint64_t entry_size = size(name);
  if (entry_size > max_size) {
    throw_file_error("the archive entry is too large", path_ + ":" + name,
                     "at most " + counted(max_size, "byte"), counted(entry_size, "byte"));
  }
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(entry_size));
  read(name, bytes.data(), entry_size);
  return bytes;
}

}  // namespace repquant
