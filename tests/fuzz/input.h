// Helpers of the targets.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <stdexcept>
#include <string>
#include <string_view>

#include "fuzz/targets.h"
#include "repquant/error.h"

namespace repquant::fuzz {

inline std::string_view text_of(Input input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

/// The input as a file in memory, for readers that take a path.
class InputFile {
 public:
  explicit InputFile(Input input) : descriptor_(::memfd_create("fuzz", 0)) {
    if (descriptor_ < 0) throw std::runtime_error("no file in memory");
    for (std::size_t done = 0; done < input.size();) {
      const ssize_t count = ::write(descriptor_, input.data() + done, input.size() - done);
      if (count <= 0) throw std::runtime_error("no room in memory");
      done += static_cast<std::size_t>(count);
    }
  }
  ~InputFile() { ::close(descriptor_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

/// Runs `read`; an Error that says what is wrong with the input is what is wanted.
template <typename Read>
void survive(const Read& read) {
  try {
    read();
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kInternal) throw;
  }
}

}  // namespace repquant::fuzz
