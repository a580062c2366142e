#include "base/sha256.h"

#include <openssl/evp.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <system_error>
#include <utility>
#include <vector>

#include "repquant/error.h"

namespace repquant {
namespace {

void check(int status) {
  if (status != 1) throw Error(ErrorKind::kInternal, {.what = "SHA-256 computation failed"});
}

}  // namespace

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  check(state_->context != nullptr ? 1 : 0);
  check(EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr));
}

Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(std::span<const std::byte> bytes) {
  check(state_ != nullptr ? EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) : 0);
}

void Sha256::update(std::string_view text) {
  update(std::as_bytes(std::span(text.data(), text.size())));
}

std::string Sha256::hex_digest() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  check(state_ != nullptr ? EVP_DigestFinal_ex(state_->context, digest.data(), &size) : 0);
  state_.reset();
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) {
    hex += kDigits[digest[i] >> 4U];
    hex += kDigits[digest[i] & 15U];
  }
  return hex;
}

std::string sha256_of(std::string_view text) {
  Sha256 hash;
  hash.update(text);
  return hash.hex_digest();
}

std::string sha256_of_file(const std::filesystem::path& path) {
  const auto fail = [&path](std::string got) {
    return Error(ErrorKind::kFile, {.what = "cannot read file",
                                    .where = path.string(),
                                    .expected = "a readable file",
                                    .got = std::move(got)});
  };
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) throw fail("a directory");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw fail(std::strerror(errno));
  Sha256 hash;
  std::vector<char> block(1U << 20U);
  while (file) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    hash.update(std::string_view(block.data(), static_cast<std::size_t>(file.gcount())));
  }
  if (!file.eof()) throw fail("a read error");
  return hash.hex_digest();
}

}  // namespace repquant
