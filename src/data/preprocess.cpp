#include "data/preprocess.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "repquant/error.h"

namespace repquant {
namespace {

/// Size after the resize step: torchvision's _compute_resized_image_output_size.
std::array<int, 2> resized_size(const Image& image, const ImagePreset& preset) {
  if (preset.resize_mode == ResizeMode::kExact) return {preset.resize, preset.resize};
  const int shorter = std::min(image.width, image.height);
  const int longer = std::max(image.width, image.height);
  const std::int64_t scaled = std::int64_t{preset.resize} * longer / shorter;
  constexpr std::int64_t kMaxSide = 65535;
  if (scaled > kMaxSide) {
    throw Error(ErrorKind::kUsage,
                {"the image is too narrow to be resized by its shorter side", "",
                 "a longer side of at most " + std::to_string(kMaxSide) + " pixels",
                 std::to_string(image.width) + " x " + std::to_string(image.height),
                 "leave the image out, or cut it"});
  }
  const int other = static_cast<int>(scaled);
  return image.width <= image.height ? std::array{preset.resize, other}
                                     : std::array{other, preset.resize};
}

/// round(twice / 2) as Python rounds: half to even.
int round_half_to_even(int twice) {
  const int floor = twice >> 1;
  return floor + (twice & floor & 1);
}

/// Centre crop; torchvision pads a smaller image first, the odd pixel on the right and bottom.
Image center_crop(const Image& image, int height, int width) {
  const int pad_left = std::max(width - image.width, 0) / 2;
  const int pad_top = std::max(height - image.height, 0) / 2;
  const int padded_width = std::max(image.width, width);
  const int padded_height = std::max(image.height, height);
  const int left = round_half_to_even(padded_width - width) - pad_left;
  const int top = round_half_to_even(padded_height - height) - pad_top;

  Image result{width, height, {}};
  result.pixels.resize(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3);
  const int first_column = std::max(left, 0);
  const int end_column = std::min(left + width, image.width);
  const int first_row = std::max(top, 0);
  const int end_row = std::min(top + height, image.height);
  if (end_column <= first_column) return result;
  const auto offset = [](int row, int column, int row_width) {
    return (static_cast<std::size_t>(row) * static_cast<std::size_t>(row_width) +
            static_cast<std::size_t>(column)) *
           3;
  };
  for (int row = first_row; row < end_row; ++row) {
    std::memcpy(result.pixels.data() + offset(row - top, first_column - left, width),
                image.pixels.data() + offset(row, first_column, image.width),
                static_cast<std::size_t>(end_column - first_column) * 3);
  }
  return result;
}

// PIL's convert("L"): ITU-R 601-2 luma in 16-bit fixed point.
std::uint8_t luma(const std::uint8_t* rgb) {
  return static_cast<std::uint8_t>((rgb[0] * 19595U + rgb[1] * 38470U + rgb[2] * 7471U + 0x8000U) >>
                                   16);
}

}  // namespace

Image resize_and_crop(const Image& image, const ImagePreset& preset) {
  if (image.width < 1 || image.height < 1) {
    throw Error(ErrorKind::kUsage, {"the image has no pixels", "", "", "", ""});
  }
  Image result = image;
  if (preset.resize > 0) {
    const auto [width, height] = resized_size(image, preset);
    result = resize(image, width, height, preset.interpolation);
  }
  if (preset.crop_height > 0 && preset.crop_width > 0) {
    result = center_crop(result, preset.crop_height, preset.crop_width);
  }
  return result;
}

at::Tensor preprocess(const Image& image, const ImagePreset& preset) {
  Image input = resize_and_crop(image, preset);
  const auto pixels =
      static_cast<std::size_t>(input.width) * static_cast<std::size_t>(input.height);
  if (preset.color == ColorMode::kGray) {
    for (std::size_t i = 0; i < pixels; ++i) input.pixels[3 * i] = luma(&input.pixels[3 * i]);
  }
  at::Tensor tensor = at::empty({preset.channels(), input.height, input.width}, at::kFloat);
  float* out = tensor.mutable_data_ptr<float>();
  for (std::size_t channel = 0; channel < static_cast<std::size_t>(preset.channels()); ++channel) {
    // One table per channel keeps torchvision's order of float operations and is fast.
    std::array<float, 256> table{};
    for (std::size_t value = 0; value < table.size(); ++value) {
      table[value] =
          (static_cast<float>(value) / 255.0F - preset.mean[channel]) / preset.std[channel];
    }
    for (std::size_t i = 0; i < pixels; ++i) *out++ = table[input.pixels[3 * i + channel]];
  }
  return tensor;
}

std::string describe(const ImagePreset& preset) {
  std::ostringstream text;
  if (preset.resize > 0) {
    text << "resize " << preset.resize << " ("
         << (preset.resize_mode == ResizeMode::kShorter ? "shorter side" : "both sides") << ", "
         << (preset.interpolation == Interpolation::kBicubic ? "bicubic" : "bilinear") << "), ";
  }
  if (preset.crop_height > 0)
    text << "crop " << preset.crop_height << " x " << preset.crop_width << ", ";
  if (preset.color == ColorMode::kGray) text << "gray, ";
  const auto channels = static_cast<std::size_t>(preset.channels());
  text << "mean";
  for (std::size_t i = 0; i < channels; ++i) text << ' ' << preset.mean[i];
  text << ", std";
  for (std::size_t i = 0; i < channels; ++i) text << ' ' << preset.std[i];
  return text.str();
}

}  // namespace repquant
