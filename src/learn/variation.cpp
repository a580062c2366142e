#include "learn/variation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace repquant {
namespace {

constexpr double kLeastArea = 0.5;
constexpr double kLogAspect = 0.25;  // largest |log| of height / width relative to the image's

/// In [0, 1); the standard distributions differ between libraries.
double uniform(std::mt19937_64& engine) { return static_cast<double>(engine() >> 11) * 0x1p-53; }

std::int64_t part_of(std::int64_t length, double share) {
  return std::clamp<std::int64_t>(std::llround(static_cast<double>(length) * share), 1, length);
}

std::int64_t draw_below(std::int64_t count, std::mt19937_64& engine) {
  return static_cast<std::int64_t>(uniform(engine) * static_cast<double>(count));
}

}  // namespace

at::Tensor vary_images(const at::Tensor& images, std::mt19937_64& engine) {
  const std::int64_t height = images.size(2), width = images.size(3);
  std::vector<at::Tensor> parts;
  for (std::int64_t i = 0; i < images.size(0); ++i) {
    const double area = kLeastArea + (1 - kLeastArea) * uniform(engine);
    const double aspect = std::exp((2 * uniform(engine) - 1) * kLogAspect);
    const std::int64_t rows = part_of(height, std::sqrt(area * aspect));
    const std::int64_t columns = part_of(width, std::sqrt(area / aspect));
    const std::int64_t top = draw_below(height - rows + 1, engine);
    const std::int64_t left = draw_below(width - columns + 1, engine);
    at::Tensor part = images.narrow(0, i, 1).narrow(2, top, rows).narrow(3, left, columns);
    part = at::upsample_bilinear2d(part, {height, width}, /*align_corners=*/false);
    if (uniform(engine) < 0.5) part = part.flip(-1);
    parts.push_back(part);
  }
  return at::cat(parts);
}

}  // namespace repquant
