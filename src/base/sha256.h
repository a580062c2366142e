// SHA-256 of bytes and files, in lower-case hexadecimal.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace repquant {

/// A running hash. Not copyable; hex_digest() ends it.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(std::span<const std::byte> bytes);
  void update(std::string_view text);

  /// 64 hexadecimal digits. Throws Error kInternal when called twice.
  std::string hex_digest();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Hash of the bytes of `text`.
std::string sha256_of(std::string_view text);

/// Hash of the content of one regular file. Throws Error kFile if it cannot be read.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace repquant
