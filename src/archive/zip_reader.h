// Reading zip archives (.npz, PyTorch files) that may be malformed on purpose.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

struct zip;
struct zip_file;

namespace repquant {

class ZipReader {
 public:
  /// Throws Error kFile if the file is missing or not a zip archive, has two entries of one name,
  /// or entries that claim more than it holds.
  explicit ZipReader(const std::filesystem::path& path);

  const std::vector<std::string>& names() const { return names_; }
  bool contains(const std::string& name) const { return find(name).has_value(); }

  /// Size of the entry `name` after decompression, in bytes. Throws Error kFile if it is missing,
  /// encrypted, or claims more than deflate can hold.
  std::uint64_t size(const std::string& name) const;

  /// Reads the entry into `target`, which must have exactly size(name) bytes. Throws Error kFile if
  /// the entry is truncated or its checksum is wrong.
  void read(const std::string& name, void* target, std::uint64_t size) const;

  /// Reads the entry and keeps nothing. Throws Error kFile as read() does.
  void check(const std::string& name) const;

  /// The first bytes of the entry, at most `most` and no more than it has: enough for a header,
  /// where the checksum of the whole is not to be had.
  std::vector<std::uint8_t> read_start(const std::string& name, std::uint64_t most) const;

  /// The whole entry, at most `max_size` bytes.
  std::vector<std::uint8_t> read(const std::string& name,
                                 std::uint64_t max_size = std::uint64_t{1} << 32) const;

 private:
  struct Close {
    void operator()(zip* archive) const noexcept;
  };
  struct CloseFile {
    void operator()(zip_file* file) const noexcept;
  };
  using EntryFile = std::unique_ptr<zip_file, CloseFile>;

  EntryFile open(const std::string& name) const;
  void read_bytes(zip_file* file, const std::string& name, std::uint8_t* target,
                  std::uint64_t size) const;
  /// libzip compares the checksum when it meets the end of the entry.
  void check_end(zip_file* file, const std::string& name) const;
  std::optional<std::uint64_t> find(const std::string& name) const;
  std::uint64_t index(const std::string& name) const;
  void check_sizes() const;

  std::string path_;
  std::unique_ptr<zip, Close> archive_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, std::uint64_t> indices_;
};

}  // namespace repquant
