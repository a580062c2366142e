// Own two passes instead of ATen's antialiased upsampling: that one filters in float (or with
// 16-bit coefficients on bytes) and differs from PIL by a level here and there; this is PIL's
// arithmetic.
#include "data/resize.h"

#include <algorithm>
#include <cmath>

#include "repquant/error.h"

namespace repquant {
namespace {

constexpr int kFractionBits = 32 - 8 - 2;  // PIL: 8 bits of pixel, 2 bits of headroom

double bilinear(double x) {
  x = std::abs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

// Keys' cubic with a = -0.5.
double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
  return 0.0;
}

/// For each output position: the first input position and the weights of the following ones.
struct Taps {
  std::vector<int> begin;
  std::vector<int> count;
  std::vector<std::int32_t> weights;  // [output positions, stride]
  std::size_t stride = 0;
};

Taps make_taps(int in_size, int out_size, Interpolation interpolation) {
  const auto filter = interpolation == Interpolation::kBicubic ? bicubic : bilinear;
  const double scale = static_cast<double>(in_size) / out_size;
  const double filter_scale = std::max(scale, 1.0);
  const double support = (interpolation == Interpolation::kBicubic ? 2.0 : 1.0) * filter_scale;
  Taps taps;
  taps.stride = static_cast<std::size_t>(std::ceil(support)) * 2 + 1;
  taps.weights.resize(taps.stride * static_cast<std::size_t>(out_size));
  std::vector<double> exact(taps.stride);
  for (int out = 0; out < out_size; ++out) {
    const double center = (out + 0.5) * scale;
    // Truncation after adding a half, as Pillow does it.
    const double first = center - support + 0.5, past = center + support + 0.5;
    const int begin = std::max(static_cast<int>(first), 0);
    const int count = std::min(static_cast<int>(past), in_size) - begin;
    double sum = 0.0;
    for (int i = 0; i < count; ++i) {
      const double weight = filter((i + begin - center + 0.5) * (1.0 / filter_scale));
      exact[static_cast<std::size_t>(i)] = weight;
      sum += weight;
    }
    std::int32_t* weights = taps.weights.data() + taps.stride * static_cast<std::size_t>(out);
    for (int i = 0; i < count; ++i) {
      double weight = exact[static_cast<std::size_t>(i)];
      if (sum != 0.0) weight /= sum;
      const double fixed = weight * (1 << kFractionBits);
      weights[i] = static_cast<std::int32_t>(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
    }
    taps.begin.push_back(begin);
    taps.count.push_back(count);
  }
  return taps;
}

std::uint8_t to_byte(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kFractionBits, 0, 255));
}

constexpr std::int32_t kHalf = 1 << (kFractionBits - 1);

Image resize_horizontally(const Image& image, int width, Interpolation interpolation) {
  const Taps taps = make_taps(image.width, width, interpolation);
  Image result{width, image.height, {}};
  result.pixels.resize(static_cast<std::size_t>(width) * static_cast<std::size_t>(image.height) *
                       3);
  std::uint8_t* out = result.pixels.data();
  for (int y = 0; y < image.height; ++y) {
    const std::uint8_t* row = image.pixels.data() + static_cast<std::size_t>(y) *
                                                        static_cast<std::size_t>(image.width) * 3;
    for (std::size_t x = 0; x < static_cast<std::size_t>(width); ++x, out += 3) {
      const std::uint8_t* in = row + std::ptrdiff_t{3} * taps.begin[x];
      const std::int32_t* weights = taps.weights.data() + taps.stride * x;
      std::int32_t red = kHalf;
      std::int32_t green = kHalf;
      std::int32_t blue = kHalf;
      for (int i = 0; i < taps.count[x]; ++i, in += 3) {
        red += in[0] * weights[i];
        green += in[1] * weights[i];
        blue += in[2] * weights[i];
      }
      out[0] = to_byte(red);
      out[1] = to_byte(green);
      out[2] = to_byte(blue);
    }
  }
  return result;
}

Image resize_vertically(const Image& image, int height, Interpolation interpolation) {
  const Taps taps = make_taps(image.height, height, interpolation);
  const std::size_t row_size = static_cast<std::size_t>(image.width) * 3;
  Image result{image.width, height, {}};
  result.pixels.resize(row_size * static_cast<std::size_t>(height));
  std::vector<std::int32_t> sums(row_size);
  for (std::size_t y = 0; y < static_cast<std::size_t>(height); ++y) {
    std::fill(sums.begin(), sums.end(), kHalf);
    for (int i = 0; i < taps.count[y]; ++i) {
      const std::uint8_t* in =
          image.pixels.data() + static_cast<std::size_t>(taps.begin[y] + i) * row_size;
      const std::int32_t weight = taps.weights[taps.stride * y + static_cast<std::size_t>(i)];
      for (std::size_t x = 0; x < row_size; ++x) sums[x] += in[x] * weight;
    }
    std::uint8_t* out = result.pixels.data() + y * row_size;
    std::transform(sums.begin(), sums.end(), out, to_byte);
  }
  return result;
}

}  // namespace

Image resize(const Image& image, int width, int height, Interpolation interpolation) {
  constexpr int kMaxSide = 65535;
  if (image.width < 1 || image.height < 1 || width < 1 || height < 1 || width > kMaxSide ||
      height > kMaxSide) {
    throw Error(ErrorKind::kUsage,
                {"an image cannot be resized so", "", "sides from 1 to " + std::to_string(kMaxSide),
                 std::to_string(image.width) + " x " + std::to_string(image.height) + " to " +
                     std::to_string(width) + " x " + std::to_string(height),
                 ""});
  }
  // Pillow 13 chooses the order so; up to Pillow 12 the horizontal pass always came first.
  const bool vertical_first =
      image.height > height && image.height - height > 2 * (image.width - width);
  Image result = image;
  for (const bool vertical : {vertical_first, !vertical_first}) {
    if (vertical && height != result.height) {
      result = resize_vertically(result, height, interpolation);
    } else if (!vertical && width != result.width) {
      result = resize_horizontally(result, width, interpolation);
    }
  }
  return result;
}

}  // namespace repquant
