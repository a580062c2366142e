// Codes on a grid of each row's own, with a norm first where there is one: one row after another.
#pragma once

#include "ops/kernels/kernels.h"
#include "ops/kernels/norm.h"

namespace repquant::ops {
namespace {

/// Of two neighbouring levels the lower one has the codes up to here.
inline std::uint8_t middle_of(const std::uint8_t* levels, int upper) {
  return static_cast<std::uint8_t>((levels[upper - 1] + levels[upper]) / 2);
}

/// The level that is nearest to each code.
inline void fill_table(const std::uint8_t* levels, int count, std::uint8_t* table) {
  int level = 0;
  for (int code = 0; code < 256; ++code) {
    while (level + 1 < count && code > middle_of(levels, level + 1)) ++level;
    table[code] = levels[level];
  }
}

/// codes = the level that is nearest to each, of two the lower one. Counted up from the lowest
/// level rather than looked up: bytes compare and add in vectors. For few levels.
inline void nearest_levels(const std::uint8_t* levels, int count, std::uint8_t* codes,
                           std::int64_t width) {
  constexpr std::int64_t kChunk = 64;
  for (std::int64_t begin = 0; begin < width; begin += kChunk) {
    std::uint8_t fine[kChunk], nearest[kChunk];
    const std::int64_t n = width - begin < kChunk ? width - begin : kChunk;
    for (std::int64_t i = 0; i < kChunk; ++i) {
      fine[i] = i < n ? codes[begin + i] : std::uint8_t{0};
      nearest[i] = levels[0];
    }
    for (int t = 1; t < count; ++t) {
      const std::uint8_t middle = middle_of(levels, t);
      const auto step = static_cast<std::uint8_t>(levels[t] - levels[t - 1]);
      for (std::int64_t i = 0; i < kChunk; ++i) {
        nearest[i] = static_cast<std::uint8_t>(nearest[i] + (fine[i] > middle ? step : 0));
      }
    }
    for (std::int64_t i = 0; i < n; ++i) codes[begin + i] = nearest[i];
  }
}

/// y = x multiplier + offset, in two roundings as LibTorch's operators have it.
template <class V>
void scale_row(const TokenArgs& args, const float* x, float* y) {
  over_lanes(args.width, [&](std::int64_t i, std::int64_t n) {
    auto scaled = V::mul(load_lanes<V>(x + i, n), load_lanes<V>(args.multiplier + i, n));
    if (args.offset != nullptr) scaled = V::add(scaled, load_lanes<V>(args.offset + i, n));
    store_float_lanes<V>(y + i, scaled, n);
  });
}

template <class V>
void token_quantize(const TokenArgs& args, std::int64_t row_begin, std::int64_t row_end,
                    float* scratch) {
  constexpr float kSmallest = 1.1754943508222875e-38F;  // normal
  const std::int64_t width = args.width;
  const auto limit = V::set(static_cast<float>(args.top)), zero = V::set(0.0F);
  constexpr int kFewLevels = 16;
  std::uint8_t table[256];
  if (args.level_count > kFewLevels) fill_table(args.levels, args.level_count, table);
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const float* x = args.x + row * width;
    if (args.weight != nullptr) {
      const Normal<V> of_row = normal_of<V>(x, width, args.epsilon, args.root_mean_square);
      const auto centre = of_row.centre, inverse = of_row.inverse;
      const float* raw = x;
      over_lanes(width, [&](std::int64_t i, std::int64_t n) {
        const auto normal = V::mul(V::sub(load_lanes<V>(raw + i, n), centre), inverse);
        const auto y =
            V::fma(normal, load_lanes<V>(args.weight + i, n), load_lanes<V>(args.bias + i, n));
        store_float_lanes<V>(scratch + i, y, n);
      });
      x = scratch;
    } else if (args.multiplier != nullptr) {
      scale_row<V>(args, x, scratch);
      x = scratch;
    }
    auto lows = V::set(x[0]), highs = lows, poison = zero;
    std::int64_t i = 0;
    for (; i + 16 <= width; i += 16) {
      const auto y = V::load(x + i);
      lows = V::min(lows, y);
      highs = V::max(highs, y);
      poison = V::fma(y, zero, poison);  // NaN from here on if y is not finite
    }
    float low = -V::largest(V::sub(zero, lows)), high = V::largest(highs), bad = V::sum(poison);
    for (; i < width; ++i) {
      low = x[i] < low ? x[i] : low;
      high = x[i] > high ? x[i] : high;
      bad += x[i] * 0.0F;
    }
    const float range = (high - low) / static_cast<float>(args.top);
    const float step = range > kSmallest ? range : kSmallest;
    args.rows[2 * row] = low + bad;
    args.rows[2 * row + 1] = step;
    std::uint8_t* codes = args.codes + row * width;
    const auto lowest = V::set(low), inverse = V::set(1.0F / step);
    over_lanes(width, [&](std::int64_t at, std::int64_t n) {
      const auto u = V::round(V::mul(V::sub(load_lanes<V>(x + at, n), lowest), inverse));
      store_code_lanes<V>(codes + at, V::to_int(V::min(V::max(u, zero), limit)), n);
    });
    if (args.level_count > kFewLevels) {
      for (std::int64_t c = 0; c < width; ++c) codes[c] = table[codes[c]];
    } else if (args.levels != nullptr) {
      nearest_levels(args.levels, args.level_count, codes, width);
    }
  }
}

}  // namespace
}  // namespace repquant::ops
