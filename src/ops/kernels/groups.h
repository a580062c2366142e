// Codes on a grid of each group of columns, or the values that they stand for. A group is short, so
// the ends of several are found together, a lane for each, and all that comes once for a group is
// done once for all of them.
#pragma once

#include "ops/kernels/kernels.h"
#include "ops/kernels/norm.h"
#include "ops/kernels/token.h"

namespace repquant::ops {
namespace {

/// kGroupsTogether groups or fewer, one after the other in memory.
struct GroupSpan {
  const float* begin[kGroupsTogether];
  std::int64_t widths[kGroupsTogether];
  int count = 0;
  alignas(64) float low[16], step[16], inverse[16];

  void add(const float* values, std::int64_t width) {
    begin[count] = values;
    widths[count++] = width;
  }
  std::int64_t size() const { return begin[count - 1] + widths[count - 1] - begin[0]; }
};

/// Groups of a row that is not finite have grids that are not.
template <class V>
void spoil_groups(GroupSpan& span) {
  for (int g = 0; g < span.count; ++g) {
    auto bad = V::set(0.0F);
    over_lanes(span.widths[g], [&](std::int64_t i, std::int64_t n) {
      bad = V::fma(load_lanes<V>(span.begin[g] + i, n), V::set(0.0F), bad);
    });
    span.low[g] += V::sum(bad);
  }
}

/// The grids as Extent finds them of one row.
template <class V>
void find_grids(GroupSpan& span, int top) {
  static_assert(kGroupsTogether == 16);
  typename V::F lowest[16], highest[16];
  auto bad = V::set(0.0F);
  const auto zero = V::set(0.0F);
  for (int g = 0; g < 16; ++g) {
    // Lanes without a group repeat the first one.
    const int from = g < span.count ? g : 0;
    const float* x = span.begin[from];
    const std::int64_t width = span.widths[from];
    auto low = V::set(__builtin_inff()), high = V::set(-__builtin_inff());
    const auto add = [&](typename V::F y) {
      low = V::min(low, y);
      high = V::max(high, y);
      bad = V::fma(y, zero, bad);
    };
    std::int64_t i = 0;
    for (; i + 16 <= width; i += 16) add(V::load(x + i));
    if (i < width) add(V::load_n(x + i, width - i, x[i]));
    lowest[g] = V::sub(zero, low);
    highest[g] = high;
  }
  constexpr float kSmallest = 1.1754943508222875e-38F;  // normal
  const auto low = V::sub(zero, V::largest_of_each(lowest));
  const auto range =
      V::div(V::sub(V::largest_of_each(highest), low), V::set(static_cast<float>(top)));
  const auto step = V::max(range, V::set(kSmallest));
  V::store(span.low, low);
  V::store(span.step, step);
  V::store(span.inverse, V::div(V::set(1.0F), step));
  if (const float sum = V::sum(bad); sum != sum) spoil_groups<V>(span);
}

/// As write_codes() for a row.
template <class V>
void write_span_codes(const GroupSpan& span, std::uint8_t* codes) {
  for (int g = 0; g < span.count; ++g) {
    const auto low = V::set(span.low[g]), inverse = V::set(span.inverse[g]);
    over_lanes(span.widths[g], [&](std::int64_t i, std::int64_t n) {
      const auto y = V::sub(load_lanes<V>(span.begin[g] + i, n), low);
      store_code_lanes<V>(codes + i, V::to_int(V::mul(y, inverse)), n);
    });
    codes += span.widths[g];
  }
}

inline void write_span_values(const GroupSpan& span, const std::uint8_t* codes, float* out) {
  for (int g = 0; g < span.count; ++g) {
    const std::int64_t width = span.widths[g];
    const float low = span.low[g], step = span.step[g];
    for (std::int64_t i = 0; i < width; ++i) out[i] = static_cast<float>(codes[i]) * step + low;
    codes += width;
    out += width;
  }
}

template <class V>
void group_quantize(const GroupArgs& args, std::int64_t row_begin, std::int64_t row_end,
                    std::uint8_t* scratch) {
  const LevelLookup<V> lookup(args.levels, args.level_count);
  const std::int64_t width = args.width;
  float* grids = args.grids == nullptr ? nullptr : args.grids + 2 * args.groups() * row_begin;
  GroupSpan span;
  const auto write = [&] {
    const std::int64_t place = span.begin[0] - args.x;
    std::uint8_t* codes = args.codes == nullptr ? scratch : args.codes + place;
    find_grids<V>(span, args.top);
    write_span_codes<V>(span, codes);
    lookup.apply(codes, span.size());
    if (args.codes == nullptr) {
      write_span_values(span, codes, args.out + place);
    } else {
      for (int g = 0; g < span.count; ++g, grids += 2) {
        grids[0] = span.low[g];
        grids[1] = span.step[g];
      }
    }
    span.count = 0;
  };
  for (std::int64_t r = row_begin; r < row_end; ++r) {
    const float* x = args.x + r * width;
    for (std::int64_t from = 0; from < width; from += args.group_size) {
      const std::int64_t left = width - from;
      span.add(x + from, left < args.group_size ? left : args.group_size);
      if (span.count == kGroupsTogether) write();
    }
  }
  if (span.count > 0) write();
}

}  // namespace
}  // namespace repquant::ops
