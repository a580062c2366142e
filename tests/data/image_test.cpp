#include "data/image.h"

#include <gtest/gtest.h>

#include "fixtures.h"
#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::fixture;
using testing::fixture_files;
using testing::largest_difference;
using testing::TempDir;
using testing::write_text;

at::Tensor golden(const std::filesystem::path& image) {
  return read_npy(fixture("golden") / image.stem().concat(".npy"));
}

// PNG has one right answer per mode, so not a single level may differ.
TEST(Image, PngEqualsPilInEveryMode) {
  const auto files = fixture_files("images", ".png");
  ASSERT_GE(files.size(), 30U);
  for (const auto& file : files) {
    EXPECT_EQ(largest_difference(read_image(file), golden(file)), 0) << file;
  }
}

// Versions of libjpeg may round differently by one level.
TEST(Image, JpegEqualsPilWithinOneLevel) {
  const auto files = fixture_files("images", ".jpg");
  ASSERT_GE(files.size(), 10U);
  for (const auto& file : files) {
    EXPECT_LE(largest_difference(read_image(file), golden(file)), 1) << file;
  }
}

TEST(Image, ContentDecidesNotTheName) {
  const TempDir dir;
  std::filesystem::copy_file(fixture("images/rgb8.png"), dir / "photo.jpg");
  EXPECT_EQ(largest_difference(read_image(dir / "photo.jpg"), golden(fixture("images/rgb8.png"))),
            0);
}

TEST(Image, EveryTruncationIsAnError) {
  for (const char* name :
       {"images/rgb8.png", "images/rgb8_interlaced.png", "images/jpeg_420.jpg",
        "images/jpeg_progressive.jpg", "images/jpeg_restart.jpg", "images/jpeg_cmyk.jpg"}) {
    const auto bytes = read_bytes(fixture(name));
    for (std::size_t size = 0; size < bytes.size(); size += size < 64 ? 1 : 7) {
      const auto error = testing::error_of([&] { decode_image(Bytes(bytes).first(size), name); });
      ASSERT_TRUE(error.has_value()) << name << " cut to " << size;
      EXPECT_EQ(error->kind(), ErrorKind::kFile);
      EXPECT_EQ(error->parts().where, name);
    }
    EXPECT_ERROR(decode_image(Bytes(bytes).first(bytes.size() - 1), name), ErrorKind::kFile,
                 "truncated");
  }
}

TEST(Image, OverwrittenScanDataIsAnError) {
  auto bytes = read_bytes(fixture("images/jpeg_restart.jpg"));
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(bytes.size() / 2), bytes.end() - 2,
            std::uint8_t{0x55});
  EXPECT_ERROR(decode_image(bytes, "broken.jpg"), ErrorKind::kFile, "broken.jpg");
}

TEST(Image, OtherContentIsNamed) {
  const TempDir dir;
  write_text(dir / "a.jpg", "GIF89a.......");
  EXPECT_ERROR(read_image(dir / "a.jpg"), ErrorKind::kFile, "a GIF image");
  write_text(dir / "b.jpg", "");
  EXPECT_ERROR(read_image(dir / "b.jpg"), ErrorKind::kFile, "empty");
  EXPECT_ERROR(read_image(dir / "missing.jpg"), ErrorKind::kFile, "missing.jpg");
  EXPECT_ERROR(read_image(dir.path()), ErrorKind::kFile, "regular file");
}

TEST(Image, LimitsHold) {
  ImageLimits limits;
  limits.max_pixels = 21 * 27 - 1;
  EXPECT_ERROR(read_image(fixture("images/rgb8.png"), limits), ErrorKind::kFile, "too large");
  EXPECT_ERROR(read_image(fixture("images/jpeg_420.jpg"), limits), ErrorKind::kFile, "too large");
  limits.max_pixels += 1;
  EXPECT_NO_THROW(read_image(fixture("images/rgb8.png"), limits));
  limits.max_scans = 3;
  EXPECT_ERROR(read_image(fixture("images/jpeg_progressive.jpg"), limits), ErrorKind::kFile,
               "more than 3 scans");
  limits = {};
  limits.max_file_size = 100;
  EXPECT_ERROR(read_image(fixture("images/rgb8.png"), limits), ErrorKind::kFile, "too large");
}

}  // namespace
}  // namespace repquant
