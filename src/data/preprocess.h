// How an image becomes a model input: one preset, the same for calibration and evaluation.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/image.h"
#include "data/resize.h"

namespace repquant {

enum class ResizeMode {
  kShorter,  // the shorter side becomes `resize`, the other keeps the aspect ratio
  kExact,    // both sides become `resize`
};

enum class ColorMode { kRgb, kGray };

/// Resize, then centre crop, then (x / 255 - mean) / std per channel.
struct ImagePreset {
  int resize = 0;  // pixels; 0: no resize
  ResizeMode resize_mode = ResizeMode::kShorter;
  Interpolation interpolation = Interpolation::kBicubic;
  int crop_height = 0;  // pixels; both 0: no crop
  int crop_width = 0;
  std::array<float, 3> mean{0.0F, 0.0F, 0.0F};
  std::array<float, 3> std{1.0F, 1.0F, 1.0F};
  ColorMode color = ColorMode::kRgb;  // kGray: one channel, normalised with the first mean and std

  int channels() const { return color == ColorMode::kRgb ? 3 : 1; }
  friend bool operator==(const ImagePreset&, const ImagePreset&) = default;
};

/// Name of the extra file in a TorchScript archive that holds the preset.
inline constexpr const char* kPresetFile = "preprocess.json";

/// Parses {"schema_version": 1, "resize": 248, "resize_mode": "shorter" | "exact",
/// "interpolation": "bilinear" | "bicubic", "crop": [height, width], "mean": [3 numbers],
/// "std": [3 positive numbers], "color": "rgb" | "gray"}. All keys are required; a gray preset may
/// have one mean and one std. `where` names the source in messages.
/// Throws Error kUsage for anything else: unknown, missing or duplicate keys, wrong types, values
/// out of range.
ImagePreset preset_from_json(const std::string& text, const std::string& where);

/// The preset as JSON text that preset_from_json() reads back to an equal value.
std::string preset_to_json(const ImagePreset& preset);

/// The preset of a model: of the file `<model>.preprocess.json` next to it, else of the archive's
/// extra file, else nothing. Throws Error kFile or kUsage if one is there and cannot be read.
std::optional<ImagePreset> find_preset(const std::filesystem::path& model);

/// "resize 248 (shorter side, bicubic), crop 224 x 224, mean 0.5 0.5 0.5, std 0.5 0.5 0.5", the
/// protocol line beside a result.
std::string describe(const ImagePreset& preset);

/// Resized and cropped pixels, as torchvision's Resize and CenterCrop on a PIL image: the longer
/// side is truncated, crop offsets are rounded half to even, an image smaller than the crop is
/// padded with black. Throws Error kUsage if a side would exceed 65535 pixels.
Image resize_and_crop(const Image& image, const ImagePreset& preset);

/// Model input [channels, height, width], float32.
at::Tensor preprocess(const Image& image, const ImagePreset& preset);

}  // namespace repquant
