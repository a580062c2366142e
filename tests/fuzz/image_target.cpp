#include "data/image.h"
#include "data/preprocess.h"
#include "fuzz/input.h"

namespace repquant::fuzz {

void fuzz_image(Input input) {
  constexpr ImageLimits kSmall{.max_pixels = 1 << 16, .max_scans = 20};  // for many runs a second
  survive([&] { decode_image(input, "fuzz", kSmall); });
}

void fuzz_preset(Input input) {
  survive([&] {
    const ImagePreset preset = preset_from_json(std::string(text_of(input)), "fuzz");
    if (preset_from_json(preset_to_json(preset), "fuzz") != preset) {
      throw std::logic_error("a preset that does not come back from its text");
    }
  });
}

}  // namespace repquant::fuzz
