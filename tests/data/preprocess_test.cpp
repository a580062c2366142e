#include "data/preprocess.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "fixtures.h"
#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::fixture;
using testing::largest_difference;
using testing::TempDir;
using testing::write_text;

struct Case {
  const char* name;
  ImagePreset preset;
};

ImagePreset preset(int resize, ResizeMode mode, Interpolation interpolation, int crop_height,
                   int crop_width) {
  ImagePreset result;
  result.resize = resize;
  result.resize_mode = mode;
  result.interpolation = interpolation;
  result.crop_height = crop_height;
  result.crop_width = crop_width;
  return result;
}

constexpr auto kShorter = ResizeMode::kShorter;
constexpr auto kExact = ResizeMode::kExact;
constexpr auto kBicubic = Interpolation::kBicubic;
constexpr auto kBilinear = Interpolation::kBilinear;

// The cases of make_fixtures.py.
const std::vector<Case>& cases() {
  static const std::vector<Case> kCases{
      {"down_bicubic", preset(32, kShorter, kBicubic, 28, 28)},
      {"down_bilinear", preset(32, kShorter, kBilinear, 28, 28)},
      {"down_tall_bicubic", preset(23, kShorter, kBicubic, 20, 19)},
      {"up_bicubic", preset(40, kShorter, kBicubic, 36, 36)},
      {"up_bilinear", preset(40, kShorter, kBilinear, 35, 35)},
      {"exact_bicubic", preset(24, kExact, kBicubic, 0, 0)},
      {"exact_bilinear", preset(50, kExact, kBilinear, 0, 0)},
      {"one_axis", preset(32, kExact, kBicubic, 0, 0)},
      {"strong_reduction", preset(4, kShorter, kBicubic, 4, 5)},
      {"padded", preset(20, kShorter, kBicubic, 25, 31)},
      {"crop_only", preset(0, kShorter, kBicubic, 23, 24)},
      {"half_to_even", preset(24, kShorter, kBicubic, 19, 20)},
  };
  return kCases;
}

TEST(Preprocess, ResizeAndCropEqualPil) {
  for (const Case& item : cases()) {
    const std::string name = std::string("resized/") + item.name;
    const Image image = resize_and_crop(read_image(fixture(name + ".png")), item.preset);
    EXPECT_EQ(largest_difference(image, read_npy(fixture(name + ".npy"))), 0) << name;
  }
}

TEST(Preprocess, NormalisesPerChannel) {
  ImagePreset spec;
  spec.mean = {0.5F, 0.25F, 0.0F};
  spec.std = {0.5F, 1.0F, 2.0F};
  const Image image{2, 1, {0, 51, 255, 255, 102, 0}};
  const at::Tensor expected =
      at::tensor({-1.0F, 1.0F, 0.2F - 0.25F, 0.4F - 0.25F, 0.5F, 0.0F}).reshape({3, 1, 2});
  const at::Tensor result = preprocess(image, spec);
  EXPECT_EQ(result.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(result, expected)) << result;
}

TEST(Preprocess, GrayEqualsPilLuma) {
  ImagePreset spec = cases()[0].preset;
  spec.color = ColorMode::kGray;
  const at::Tensor result = preprocess(read_image(fixture("resized/down_bicubic.png")), spec);
  const at::Tensor expected = read_npy(fixture("resized/down_bicubic_gray.npy"));
  ASSERT_EQ(result.sizes(), (at::IntArrayRef{1, 28, 28}));
  EXPECT_TRUE(at::equal((result[0] * 255).round().to(at::kByte), expected));
}

TEST(Preprocess, ImpossibleSizesAreErrors) {
  Image image{70000, 1, {}};
  image.pixels.resize(70000 * 3);
  EXPECT_ERROR(preprocess(image, preset(1, kShorter, kBicubic, 1, 1)), ErrorKind::kUsage,
               "too narrow");
  EXPECT_ERROR(preprocess(Image{}, ImagePreset{}), ErrorKind::kUsage, "no pixels");
}

constexpr const char* kJson =
    R"({"schema_version": 1, "resize": 248, "resize_mode": "shorter", "interpolation": "bicubic",
        "crop": [224, 192], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
        "color": "rgb"})";

std::string replaced(const std::string& from, const std::string& to) {
  std::string text = kJson;
  const std::size_t position = text.find(from);
  EXPECT_NE(position, std::string::npos) << from;
  return text.replace(position, from.size(), to);
}

TEST(Preset, ReadsWhatItWrites) {
  const ImagePreset read = preset_from_json(kJson, "here");
  EXPECT_EQ(read.resize, 248);
  EXPECT_EQ(read.resize_mode, ResizeMode::kShorter);
  EXPECT_EQ(read.interpolation, Interpolation::kBicubic);
  EXPECT_EQ(read.crop_height, 224);
  EXPECT_EQ(read.crop_width, 192);
  EXPECT_EQ(read.mean, (std::array<float, 3>{0.485F, 0.456F, 0.406F}));
  EXPECT_EQ(preset_from_json(preset_to_json(read), "there"), read);
  EXPECT_THAT(preset_to_json(read), ::testing::HasSubstr("0.485,0.456,0.406"));

  ImagePreset other = preset(50, kExact, kBilinear, 0, 0);
  other.color = ColorMode::kGray;
  other.std = {1.0F / 3, 1e-7F, 12345.678F};
  EXPECT_EQ(preset_from_json(preset_to_json(other), "there"), other);
}

TEST(Preset, GrayTakesOneMean) {
  std::string text = replaced("\"rgb\"", "\"gray\"");
  text.replace(text.find("[0.485, 0.456, 0.406]"), 21, "[0.1307]");
  const ImagePreset read = preset_from_json(text, "here");
  EXPECT_EQ(read.mean[0], 0.1307F);
  EXPECT_EQ(read.channels(), 1);
}

TEST(Preset, MistakesAreNamed) {
  const std::vector<std::array<std::string, 3>> mistakes{
      {"\"resize\"", "\"resise\"", "resise"},
      {"\"resize\": 248", "\"resize\": 248, \"resize\": 224", "resize"},
      {"\"resize\": 248, ", "", "resize"},
      {"248", "248.5", "resize"},
      {"248", "-1", "resize"},
      {"248", "18446744073709551615", "resize"},
      {"\"schema_version\": 1", "\"schema_version\": 2", "schema_version"},
      {"\"shorter\"", "\"longer\"", "resize_mode"},
      {"\"bicubic\"", "3", "interpolation"},
      {"[224, 192]", "224", "crop"},
      {"[224, 192]", "[224, 0]", "crop"},
      {"[224, 192]", "[224, \"192\"]", "crop/1"},
      {"0.485, ", "", "mean"},
      {"[0.229, 0.224, 0.225]", "[0.229, 0, 0.225]", "std"},
      {"0.229", "1e300", "std"},
      {"0.229", "true", "std"},
      {"\"rgb\"", "\"bgr\"", "color"},
      {"\"rgb\"", "\"gray\"}", "here"},
      {"{", "[", "here"},
  };
  for (const auto& [from, to, part] : mistakes) {
    const std::string text = replaced(from, to);
    EXPECT_ERROR(preset_from_json(text, "here"), ErrorKind::kUsage, part);
  }
  EXPECT_ERROR(preset_from_json("[]", "here"), ErrorKind::kUsage, "here");
  EXPECT_ERROR(preset_from_json("", "here"), ErrorKind::kUsage, "here");
}

TEST(Preset, FoundBesideTheModelOrNotAtAll) {
  const TempDir dir;
  std::filesystem::copy_file(fixture("arrays/module.pt"), dir / "model.pt");
  EXPECT_FALSE(find_preset(dir / "model.pt").has_value());
  write_text(dir / "model.pt.preprocess.json", kJson);
  const auto found = find_preset(dir / "model.pt");
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->resize, 248);
  write_text(dir / "model.pt.preprocess.json", "{");
  EXPECT_ERROR(find_preset(dir / "model.pt"), ErrorKind::kUsage, "model.pt.preprocess.json");
}

TEST(Preset, FoundInTheArchive) {
  const auto found = find_preset(fixture("arrays/module_with_preset.pt"));
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->resize, 9);
  EXPECT_EQ(found->crop_width, 8);
  EXPECT_EQ(describe(*found),
            "resize 9 (shorter side, bilinear), crop 8 x 8, mean 0.5 0.5 0.5, "
            "std 0.25 0.25 0.25");
}

}  // namespace
}  // namespace repquant
