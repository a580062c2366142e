// Links only if LibTorch and this compiler agree on std::string (see repquant_libtorch.cmake).
#include <cstdint>
#include <string>

namespace c10::detail {
[[noreturn]] void torchCheckFail(const char* function, const char* file, std::uint32_t line,
                                 const std::string& message);
}  // namespace c10::detail

int main(int count, char**) {
  if (count > 100) c10::detail::torchCheckFail("", "", 0, std::string("x"));
  return 0;
}
