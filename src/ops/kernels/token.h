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

/// What is known of a row before its codes are made.
struct TokenRow {
  const float* values;
  float low, step;
};

/// Smallest and largest of the values that pass by; `bad` is NaN after one that is not finite.
template <class V>
struct Extent {
  typename V::F low = V::set(__builtin_inff()), high = V::set(-__builtin_inff());
  typename V::F bad = V::set(0.0F);

  void add(typename V::F y) {
    low = V::min(low, y);
    high = V::max(high, y);
    bad = V::fma(y, V::set(0.0F), bad);
  }
  /// With the last values of a row, fewer than 16 from `rest` on.
  TokenRow row(const float* values, const float* rest, const float* end, int top) {
    if (rest < end) add(V::load_n(rest, end - rest, *rest));
    const float lowest = -V::largest(V::sub(V::set(0.0F), low)), highest = V::largest(high);
    const float poison = V::sum(bad);
    constexpr float kSmallest = 1.1754943508222875e-38F;  // normal
    const float range = (highest - lowest) / static_cast<float>(top);
    return {values, lowest + poison, range > kSmallest ? range : kSmallest};
  }
};

/// Writes a row, value(i, n) for each 16 (n) places of it.
template <class V, class Value>
TokenRow write_row(const TokenArgs& args, float* written, Value value) {
  Extent<V> extent;
  over_lanes(args.width, [&](std::int64_t i, std::int64_t n) {
    const auto y = value(i, n);
    store_float_lanes<V>(written + i, y, n);
    if (n == 16) extent.add(y);
  });
  return extent.row(written, written + args.width / 16 * 16, written + args.width, args.top);
}

/// y multiplier + offset, in two roundings as LibTorch's operators have it.
template <class V>
typename V::F scale_channels(const TokenArgs& args, typename V::F y, std::int64_t i,
                             std::int64_t n) {
  if (args.multiplier == nullptr) return y;
  const auto scaled = V::mul(y, load_lanes<V>(args.multiplier + i, n));
  return args.offset == nullptr ? scaled : V::add(scaled, load_lanes<V>(args.offset + i, n));
}

/// Row `begin` and those after it, `count` of them: normalised, scaled or as they are.
template <class V>
void find_rows(const TokenArgs& args, std::int64_t begin, int count, float* scratch,
               TokenRow* rows) {
  const std::int64_t width = args.width;
  const float* x = args.x + begin * width;
  if (args.weight != nullptr) {
    Normal<V> normals[kRowsTogether];
    find_normals<V>(x, count, width, args.epsilon, args.root_mean_square, normals);
    for (int r = 0; r < count; ++r, x += width) {
      float* kept = args.normal == nullptr ? nullptr : args.normal + (begin + r) * width;
      rows[r] = write_row<V>(args, scratch + r * width, [&](std::int64_t i, std::int64_t n) {
        const auto y = normalised<V>(normals[r], x, args.weight, args.bias, i, n);
        if (kept != nullptr) store_float_lanes<V>(kept + i, y, n);
        return scale_channels<V>(args, y, i, n);
      });
    }
  } else if (args.multiplier != nullptr) {
    for (int r = 0; r < count; ++r, x += width) {
      rows[r] = write_row<V>(args, scratch + r * width, [&](std::int64_t i, std::int64_t n) {
        return scale_channels<V>(args, load_lanes<V>(x + i, n), i, n);
      });
    }
  } else {
    for (int r = 0; r < count; ++r, x += width) {
      Extent<V> extent;
      std::int64_t i = 0;
      for (; i + 16 <= width; i += 16) extent.add(V::load(x + i));
      rows[r] = extent.row(x, x + i, x + width, args.top);
    }
  }
}

/// What a row of codes of up to `top` becomes where there are levels.
template <class V>
class LevelLookup {
 public:
  LevelLookup(const std::uint8_t* levels, int count) : levels_(levels), count_(count) {
    if (count > kFewLevels) fill_table(levels, count, table_);
  }
  void apply(std::uint8_t* codes, std::int64_t width) const {
    if (count_ > kFewLevels) {
      V::map_bytes(table_, codes, width);
    } else if (levels_ != nullptr) {
      nearest_levels(levels_, count_, codes, width);
    }
  }

 private:
  // Where bytes are looked up one by one, few levels are found faster by comparisons.
  static constexpr int kFewLevels = V::kMapsBytes ? 0 : 16;
  const std::uint8_t* levels_;
  int count_;
  std::uint8_t table_[256];
};

/// Codes of values from their grid, between 0 and the top without being clamped: a few units in the
/// last place do not round beyond it. Where the grid is not finite they are 0.
template <class V>
void write_codes(const TokenRow& row, std::uint8_t* codes, std::int64_t width) {
  const auto lowest = V::set(row.low), inverse = V::set(1.0F / row.step);
  over_lanes(width, [&](std::int64_t at, std::int64_t n) {
    const auto y = V::sub(load_lanes<V>(row.values + at, n), lowest);
    store_code_lanes<V>(codes + at, V::to_int(V::mul(y, inverse)), n);
  });
}

template <class V>
void token_quantize(const TokenArgs& args, std::int64_t row_begin, std::int64_t row_end,
                    float* scratch) {
  const std::int64_t width = args.width;
  const LevelLookup<V> lookup(args.levels, args.level_count);
  for (std::int64_t begin = row_begin; begin < row_end; begin += kRowsTogether) {
    const std::int64_t left = row_end - begin;
    const int count = static_cast<int>(left < kRowsTogether ? left : kRowsTogether);
    TokenRow rows[kRowsTogether];
    find_rows<V>(args, begin, count, scratch, rows);
    for (int r = 0; r < count; ++r) {
      const TokenRow& row = rows[r];
      float* grid = args.rows + 2 * (begin + r);
      grid[0] = row.low;
      grid[1] = row.step;
      std::uint8_t* codes = args.codes + (begin + r) * width;
      write_codes<V>(row, codes, width);
      lookup.apply(codes, width);
    }
  }
}

}  // namespace
}  // namespace repquant::ops
