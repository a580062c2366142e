// Photographs: JPEG and PNG files decoded to 8-bit RGB.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "archive/bytes.h"

namespace repquant {

/// An 8-bit RGB image: rows from top to bottom, three interleaved bytes per pixel, no padding.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> pixels;  // height * width * 3
};

/// Bounds on what an untrusted file may ask for.
struct ImageLimits {
  std::int64_t max_pixels = 178'956'970;                 // where PIL calls it a decompression bomb
  int max_scans = 500;                                   // of a progressive JPEG
  std::uint64_t max_file_size = std::uint64_t{1} << 29;  // bytes
};

/// Decodes a JPEG or PNG, told apart by content, to what PIL gives for
/// `Image.open(file).convert("RGB")`: alpha and transparency are dropped, 16-bit grey is clipped at
/// 255, 16-bit colour keeps its high byte, four-component JPEG is inverted CMYK, EXIF orientation
/// and colour profiles are ignored. `name` is used in messages.
/// Throws Error kFile for other formats, images beyond the limits, and truncated or corrupt data
/// (also where PIL would fill the damaged part with grey).
Image decode_image(Bytes bytes, const std::string& name, const ImageLimits& limits = {});

/// Reads and decodes one file; see decode_image().
Image read_image(const std::filesystem::path& path, const ImageLimits& limits = {});

}  // namespace repquant
