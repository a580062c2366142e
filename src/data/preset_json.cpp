// ImagePreset to and from JSON, and where models keep it.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "archive/extra_file.h"
#include "base/json_text.h"
#include "base/list_text.h"
#include "data/preprocess.h"
#include "repquant/error.h"

namespace repquant {
namespace {

constexpr int kSchemaVersion = 1;
constexpr int kMaxSide = 16384;
constexpr JsonLimits kLimits{std::size_t{1} << 16, 4};

[[noreturn]] void fail(const std::string& what, const std::string& where, const std::string& key,
                       std::string expected = {}, std::string got = {}) {
  const std::string pointer = key.empty() ? std::string() : std::string("/").append(key);
  throw Error(ErrorKind::kUsage,
              {what, json_location(where, pointer), std::move(expected), std::move(got), ""});
}

int read_int(const Json& value, const std::string& where, const std::string& key, int low,
             int high) {
  const std::string range =
      "an integer from " + std::to_string(low) + " to " + std::to_string(high);
  // As double, so that integers of any size compare right.
  const bool fits =
      value.is_number_integer() && value.get<double>() >= low && value.get<double>() <= high;
  if (!fits) fail("wrong value in the preset", where, key, range, describe_json(value));
  return value.get<int>();
}

template <typename Enum>
Enum read_enum(const Json& value, const std::string& where, const std::string& key,
               const std::array<std::pair<const char*, Enum>, 2>& names) {
  if (value.is_string()) {
    for (const auto& [name, result] : names) {
      if (value.get<std::string>() == name) return result;
    }
  }
  fail("unknown value in the preset", where, key,
       std::string(names[0].first) + " or " + names[1].first, describe_json(value));
}

std::array<float, 3> read_channels(const Json& value, const std::string& where,
                                   const std::string& key, bool gray, bool positive) {
  const std::string expected =
      std::string(gray ? "1 or 3" : "3") + " finite " + (positive ? "positive " : "") + "numbers";
  const bool right_size = value.is_array() && (value.size() == 3 || (gray && value.size() == 1));
  if (!right_size) fail("wrong type in the preset", where, key, expected, describe_json(value));
  std::array<float, 3> result{};
  for (std::size_t i = 0; i < result.size(); ++i) {
    const Json& item = value[value.size() == 1 ? 0 : i];
    if (!item.is_number())
      fail("wrong type in the preset", where, key, expected, describe_json(value));
    result[i] = item.get<float>();
    if (!std::isfinite(result[i]) || (positive && !(result[i] > 0.0F))) {
      fail("value out of range in the preset", where, key, expected, describe_json(value));
    }
  }
  return result;
}

constexpr std::array<std::pair<const char*, ResizeMode>, 2> kResizeModes{
    {{"shorter", ResizeMode::kShorter}, {"exact", ResizeMode::kExact}}};
constexpr std::array<std::pair<const char*, Interpolation>, 2> kInterpolations{
    {{"bilinear", Interpolation::kBilinear}, {"bicubic", Interpolation::kBicubic}}};
constexpr std::array<std::pair<const char*, ColorMode>, 2> kColorModes{
    {{"rgb", ColorMode::kRgb}, {"gray", ColorMode::kGray}}};

template <typename Enum>
std::string name_of(Enum value, const std::array<std::pair<const char*, Enum>, 2>& names) {
  return names[0].second == value ? names[0].first : names[1].first;
}

}  // namespace

ImagePreset preset_from_json(const std::string& text, const std::string& where) {
  static constexpr std::array<const char*, 8> kKeys{
      "schema_version", "resize", "resize_mode", "interpolation", "crop", "mean", "std", "color"};
  const Json json = parse_json(text, where, kLimits);
  if (!json.is_object())
    fail("the preprocessing preset is not a JSON object", where, "", "", describe_json(json));
  for (const auto& item : json.items()) {
    if (std::find(kKeys.begin(), kKeys.end(), item.key()) == kKeys.end()) {
      fail("unknown key in the preprocessing preset", where, pointer_to("", item.key()).substr(1),
           list_text(kKeys));
    }
  }
  for (const char* key : kKeys) {
    if (!json.contains(key)) fail("the preprocessing preset lacks a key", where, key);
  }
  read_int(json["schema_version"], where, "schema_version", kSchemaVersion, kSchemaVersion);

  ImagePreset preset;
  preset.resize = read_int(json["resize"], where, "resize", 0, kMaxSide);
  preset.resize_mode = read_enum(json["resize_mode"], where, "resize_mode", kResizeModes);
  preset.interpolation = read_enum(json["interpolation"], where, "interpolation", kInterpolations);
  preset.color = read_enum(json["color"], where, "color", kColorModes);
  const Json& crop = json["crop"];
  if (!crop.is_array() || crop.size() != 2) {
    fail("wrong type in the preset", where, "crop", "[height, width]", describe_json(crop));
  }
  preset.crop_height = read_int(crop[0], where, "crop/0", 0, kMaxSide);
  preset.crop_width = read_int(crop[1], where, "crop/1", 0, kMaxSide);
  if ((preset.crop_height == 0) != (preset.crop_width == 0)) {
    fail("value out of range in the preset", where, "crop", "both sides positive or both 0",
         describe_json(crop));
  }
  const bool gray = preset.color == ColorMode::kGray;
  preset.mean = read_channels(json["mean"], where, "mean", gray, false);
  preset.std = read_channels(json["std"], where, "std", gray, true);
  return preset;
}

std::string preset_to_json(const ImagePreset& preset) {
  // The shortest decimal that reads back to the same float, so that 0.485 stays 0.485.
  const auto channels = [](const std::array<float, 3>& values) {
    Json array = Json::array();
    for (const float value : values) {
      std::array<char, 32> text{};
      const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
      array.push_back(std::stod(std::string(text.data(), end)));
    }
    return array;
  };
  Json json;
  json["schema_version"] = kSchemaVersion;
  json["resize"] = preset.resize;
  json["resize_mode"] = name_of(preset.resize_mode, kResizeModes);
  json["interpolation"] = name_of(preset.interpolation, kInterpolations);
  json["crop"] = {preset.crop_height, preset.crop_width};
  json["mean"] = channels(preset.mean);
  json["std"] = channels(preset.std);
  json["color"] = name_of(preset.color, kColorModes);
  return json.dump();
}

std::optional<ImagePreset> find_preset(const std::filesystem::path& model) {
  std::filesystem::path sidecar = model;
  sidecar += std::string(".") + kPresetFile;
  if (std::filesystem::exists(sidecar)) {
    const auto bytes = read_bytes(sidecar, kLimits.bytes);
    return preset_from_json(std::string(bytes.begin(), bytes.end()), sidecar.string());
  }
  const auto text = read_extra_file(model, kPresetFile, kLimits.bytes);
  if (!text) return std::nullopt;
  return preset_from_json(*text, model.string() + ":" + kPresetFile);
}

}  // namespace repquant
