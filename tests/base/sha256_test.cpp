#include "base/sha256.h"

#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::TempDir;
using testing::write_text;

// FIPS 180-2, appendix B, and the empty string.
constexpr const char* kEmpty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr const char* kMillionA =
    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST(Sha256Test, PublishedVectors) {
  EXPECT_EQ(sha256_of(""), kEmpty);
  EXPECT_EQ(sha256_of("abc"), kAbc);
  EXPECT_EQ(sha256_of(std::string(1000000, 'a')), kMillionA);
}

TEST(Sha256Test, PiecesGiveTheSameHash) {
  Sha256 hash;
  for (int i = 0; i < 1000; ++i) hash.update(std::string(1000, 'a'));
  EXPECT_EQ(hash.hex_digest(), kMillionA);
}

TEST(Sha256Test, FilesLargerThanOneBlock) {
  const TempDir dir;
  std::string text(3000001, 'x');
  text.back() = 'y';
  write_text(dir / "f", text);
  EXPECT_EQ(sha256_of_file(dir / "f"), sha256_of(text));
  write_text(dir / "empty", "");
  EXPECT_EQ(sha256_of_file(dir / "empty"), kEmpty);
}

TEST(Sha256Test, UnreadableFilesAreErrors) {
  const TempDir dir;
  EXPECT_ERROR(sha256_of_file(dir / "none"), ErrorKind::kFile, "No such file");
  EXPECT_ERROR(sha256_of_file(dir.path()), ErrorKind::kFile, "a directory");
}

TEST(Sha256Test, SecondDigestIsAnError) {
  Sha256 hash;
  hash.hex_digest();
  EXPECT_ERROR(hash.hex_digest(), ErrorKind::kInternal, "SHA-256");
  EXPECT_ERROR(hash.update("x"), ErrorKind::kInternal, "SHA-256");
}

}  // namespace
}  // namespace repquant
