#include "archive/bytes.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/text_table.h"
#include "repquant/error.h"

namespace repquant {
namespace {

/// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(const std::filesystem::path& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) {
      const int code = errno;
      throw_file_error("cannot open the file", path.string(), {}, std::strerror(code));
    }
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return fd_; }

  std::uint64_t regular_file_size(const std::filesystem::path& path) const {
    struct stat info {};
    if (::fstat(fd_, &info) != 0) {
      const int code = errno;
      throw_file_error("cannot read the size of the file", path.string(), {}, std::strerror(code));
    }
    if (!S_ISREG(info.st_mode)) throw_file_error("not a regular file", path.string());
    return static_cast<std::uint64_t>(info.st_size);
  }

 private:
  int fd_;
};

}  // namespace

void throw_file_error(std::string what, std::string name, std::string expected, std::string got,
                      std::string hint) {
  throw Error(ErrorKind::kFile, {std::move(what), std::move(name), std::move(expected),
                                 std::move(got), std::move(hint)});
}

std::vector<std::uint8_t> read_bytes(const std::filesystem::path& path, std::uint64_t max_size) {
  const Descriptor file(path);
  const std::uint64_t size = file.regular_file_size(path);
  if (size > max_size) {
    throw_file_error("the file is too large", path.string(), "at most " + counted(max_size, "byte"),
                     counted(size, "byte"));
  }
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ::ssize_t count = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const int code = errno;
      throw_file_error("cannot read the file", path.string(), {}, std::strerror(code));
    }
    if (count == 0) throw_file_error("the file shrank while it was read", path.string());
    done += static_cast<std::size_t>(count);
  }
  return bytes;
}

std::vector<std::string> read_lines(const std::filesystem::path& path, std::uint64_t max_size) {
  const std::vector<std::uint8_t> bytes = read_bytes(path, max_size);
  std::vector<std::string> lines;
  constexpr std::array<std::uint8_t, 3> kMark{0xEF, 0xBB, 0xBF};  // of UTF-8, which editors write
  const bool marked =
      bytes.size() >= kMark.size() && std::equal(kMark.begin(), kMark.end(), bytes.begin());
  auto begin = bytes.begin() + (marked ? std::ptrdiff_t{kMark.size()} : 0);
  while (begin != bytes.end()) {
    const auto end = std::find(begin, bytes.end(), std::uint8_t{'\n'});
    std::string line(begin, end);
    if (!line.empty() && line.back() == '\r') line.pop_back();
    lines.push_back(std::move(line));
    begin = end == bytes.end() ? end : end + 1;
  }
  return lines;
}

MappedFile::MappedFile(const std::filesystem::path& path) {
  const Descriptor file(path);
  const std::uint64_t size = file.regular_file_size(path);
  if (size == 0) throw_file_error("the file is empty", path.string());
  size_ = static_cast<std::size_t>(size);
  void* data = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) {
    const int code = errno;
    throw_file_error("cannot map the file into memory", path.string(), {}, std::strerror(code));
  }
  const auto unmap = [length = size_](std::uint8_t* begin) { ::munmap(begin, length); };
  data_ = std::shared_ptr<std::uint8_t>(static_cast<std::uint8_t*>(data), unmap);
}

}  // namespace repquant
