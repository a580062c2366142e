// Bytes of files: read whole, or mapped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace repquant {

using Bytes = std::span<const std::uint8_t>;

/// Reads a whole file. Throws Error kFile if it is missing, not a regular file, unreadable or
/// larger than `max_size` bytes.
std::vector<std::uint8_t> read_bytes(const std::filesystem::path& path,
                                     std::uint64_t max_size = std::uint64_t{1} << 32);

/// Reads a whole text file of at most `max_size` bytes; lines end with \n or \r\n. Empty lines are
/// kept, so that the index of a line plus one is its number. Throws Error kFile.
std::vector<std::string> read_lines(const std::filesystem::path& path,
                                    std::uint64_t max_size = std::uint64_t{1} << 28);

/// A file mapped into memory, for as long as a copy of this lives. The pages are private: writing
/// to them never reaches the file.
class MappedFile {
 public:
  /// Throws Error kFile if the file is missing, not a regular file, empty or not mappable.
  explicit MappedFile(const std::filesystem::path& path);

  std::uint8_t* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  Bytes bytes() const { return {data(), size()}; }

 private:
  std::size_t size_ = 0;
  std::shared_ptr<std::uint8_t> data_;
};

/// Throws Error kFile about the file or sample `name`.
[[noreturn]] void throw_file_error(std::string what, std::string name, std::string expected = {},
                                   std::string got = {}, std::string hint = {});

}  // namespace repquant
