// Where the windows of a convolution lie in an image.
#pragma once

#include <array>
#include <cstdint>

namespace repquant::ops {

/// Two dimensions; of one, the first has size 1.
struct Plane {
  std::array<std::int64_t, 2> size{1, 1}, before{0, 0}, after{0, 0}, kernel{1, 1}, stride{1, 1},
      dilation{1, 1}, grid{1, 1};

  /// Elements of a window in one channel.
  std::int64_t taps() const { return kernel[0] * kernel[1]; }
  /// Rows of the image from the first to the last that a row of windows reads.
  std::int64_t reach() const { return dilation[0] * (kernel[0] - 1) + 1; }
  std::int64_t padded_width() const { return before[1] + size[1] + after[1]; }
};

}  // namespace repquant::ops
