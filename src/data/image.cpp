#include "data/image.h"

#include "data/file_kind.h"
#include "data/image_codec.h"

namespace repquant {
namespace internal {

Image allocate_image(std::int64_t width, std::int64_t height, const std::string& name,
                     const ImageLimits& limits) {
  constexpr std::int64_t kMaxSide = 1'000'000;
  const bool fits = width > 0 && height > 0 && width <= kMaxSide && height <= kMaxSide &&
                    width * height <= limits.max_pixels;
  if (!fits) {
    throw_file_error("the image is empty or too large", name,
                     "1 to " + std::to_string(limits.max_pixels) + " pixels",
                     std::to_string(width) + " x " + std::to_string(height));
  }
  Image image{static_cast<int>(width), static_cast<int>(height), {}};
  image.pixels.resize(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3);
  return image;
}

}  // namespace internal

Image decode_image(Bytes bytes, const std::string& name, const ImageLimits& limits) {
  switch (sniff(bytes)) {
    case FileKind::kJpeg:
      return internal::decode_jpeg(bytes, name, limits);
    case FileKind::kPng:
      return internal::decode_png(bytes, name, limits);
    default:
      throw_file_error(bytes.empty() ? "the image file is empty" : "not a JPEG or PNG image", name,
                       "JPEG or PNG", describe_content(bytes),
                       "convert the image to JPEG or PNG, or remove the file");
  }
}

Image read_image(const std::filesystem::path& path, const ImageLimits& limits) {
  const std::vector<std::uint8_t> bytes = read_bytes(path, limits.max_file_size);
  return decode_image(bytes, path.string(), limits);
}

}  // namespace repquant
