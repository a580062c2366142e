// Depthwise convolution of images in channels-last order.
#pragma once

#include "ops/kernels/kernels.h"
#include "ops/kernels/math.h"
#include "ops/kernels/norm.h"
#include "ops/kernels/token.h"

namespace repquant::ops {
namespace {

/// The rows of an image that a row of the output reads, as centred codes: [blocks of 16 channels,
/// slots, padded width, 16], so that what a block reads stays in the first-level cache.
template <class V>
class CodeRows {
 public:
  CodeRows(const DepthwiseArgs& args, float* memory)
      : args_(args),
        memory_(memory),
        line_(args.plane.padded_width() * 16),
        block_(line_ * (args.plane.reach() + 1)) {
    const std::int64_t blocks = args.blocks();
    for (std::int64_t i = 0; i < blocks * block_; i += 16) V::store(memory + i, V::set(0.0F));
  }

  /// Makes the codes of image `image`'s rows that are read from `top` on.
  void need(std::int64_t image, std::int64_t top) {
    if (image != image_) {
      image_ = image;
      next_ = top;  // the slots hold rows of another image
    }
    const std::int64_t end = top + args_.plane.reach();
    if (next_ < top) next_ = top;
    for (; next_ < end; ++next_) {
      if (next_ >= 0 && next_ < args_.plane.size[0]) fill(next_);
    }
  }

  /// What row `row` of the image holds of a block; zeros outside.
  const float* line(std::int64_t block, std::int64_t row) const {
    const std::int64_t slots = args_.plane.reach();
    const bool inside = row >= 0 && row < args_.plane.size[0];
    return memory_ + block * block_ + (inside ? row % slots : slots) * line_;
  }

 private:
  void fill(std::int64_t row) {
    const std::int64_t channels = args_.channels;
    const std::int64_t from = (image_ * args_.plane.size[0] + row) * args_.plane.size[1] * channels;
    if (args_.codes != nullptr) {
      fill_pixels(row, [&](std::int64_t pixel, std::int64_t i, std::int64_t n) {
        const auto* codes =
            reinterpret_cast<const std::int8_t*>(args_.codes + from + pixel * channels + i);
        const auto bytes = n == 16 ? V::load_bytes(codes) : V::load_bytes_n(codes, n);
        const auto code = V::to_float(V::bit_and(bytes, V::set_int(255)));
        return V::sub(code, V::load(args_.zero_point + i));
      });
    } else {
      const auto top = V::set(static_cast<float>(args_.max_code));
      fill_pixels(row, [&](std::int64_t pixel, std::int64_t i, std::int64_t n) {
        const auto y = load_lanes<V>(args_.x + from + pixel * channels + i, n);
        if (args_.zero_point == nullptr) return y;
        const auto zero = V::load(args_.zero_point + i);
        return V::sub(V::round(grid_value<V>(y, V::load(args_.multiplier + i), zero, top)), zero);
      });
    }
  }

  template <class Value>
  void fill_pixels(std::int64_t row, Value value) {
    float* to = memory_ + row % args_.plane.reach() * line_ + args_.plane.before[1] * 16;
    for (std::int64_t pixel = 0; pixel < args_.plane.size[1]; ++pixel, to += 16) {
      over_lanes(args_.channels, [&](std::int64_t i, std::int64_t n) {
        V::store(to + i / 16 * block_, value(pixel, i, n));
      });
    }
  }

  const DepthwiseArgs& args_;
  float* memory_;
  std::int64_t line_, block_;
  std::int64_t image_ = -1;
  std::int64_t next_ = 0;  // the first row that was not made yet
};

/// Pixels of the output that share a load of the weights.
inline constexpr int kPixels = 4;

/// Up to kPixels pixels from `pixel` on of one block. Sums of codes are whole numbers, so their
/// order does not matter.
template <class V, int kCount>
void convolve(const DepthwiseArgs& args, const CodeRows<V>& rows, std::int64_t block,
              std::int64_t top, std::int64_t pixel, float* out) {
  const float* weight = args.weight + block * args.plane.taps() * 16;
  const std::int64_t step = args.plane.stride[1] * 16;
  typename V::F sums[kCount];
  for (int p = 0; p < kCount; ++p) sums[p] = V::set(0.0F);
  for (std::int64_t i = 0; i < args.plane.kernel[0]; ++i) {
    const float* x = rows.line(block, top + i * args.plane.dilation[0]) + pixel * step;
    for (std::int64_t j = 0; j < args.plane.kernel[1];
         ++j, weight += 16, x += args.plane.dilation[1] * 16) {
      const auto w = V::load(weight);
#pragma GCC unroll 4
      for (int p = 0; p < kCount; ++p) sums[p] = V::fma(V::load(x + p * step), w, sums[p]);
    }
  }
  const auto scale = V::load(args.scale + block * 16), bias = V::load(args.bias + block * 16);
  const std::int64_t left = args.channels - block * 16, lanes = left < 16 ? left : 16;
  for (int p = 0; p < kCount; ++p) {
    const auto y = V::add(V::mul(sums[p], scale), bias);  // two roundings, as the portable form
    store_float_lanes<V>(out + p * args.channels, y, lanes);
  }
}

template <class V>
void depthwise(const DepthwiseArgs& args, std::int64_t row_begin, std::int64_t row_end,
               float* scratch) {
  CodeRows<V> rows(args, scratch);
  const std::int64_t width = args.plane.grid[1], size = width * args.channels;
  float* row_scratch = scratch + args.image_scratch();
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const std::int64_t top = row % args.plane.grid[0] * args.plane.stride[0] - args.plane.before[0];
    rows.need(row / args.plane.grid[0], top);
    float* out = args.tokens == nullptr ? args.out + row * size : row_scratch;
    for (std::int64_t block = 0; block < args.blocks(); ++block) {
      float* to = out + block * 16;
      std::int64_t pixel = 0;
      for (; pixel + kPixels <= width; pixel += kPixels) {
        convolve<V, kPixels>(args, rows, block, top, pixel, to + pixel * args.channels);
      }
      for (; pixel < width; ++pixel) {
        convolve<V, 1>(args, rows, block, top, pixel, to + pixel * args.channels);
      }
    }
    activate_array<V>(args.activation, out, size);
    if (args.tokens == nullptr) continue;
    TokenArgs part = *args.tokens;
    part.x = out;
    part.codes += row * size;
    part.rows += 2 * row * width;
    token_quantize<V>(part, 0, width, row_scratch + args.row_scratch());
  }
}

}  // namespace
}  // namespace repquant::ops
