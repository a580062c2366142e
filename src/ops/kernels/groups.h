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

/// Calls body(values, n) for each vector of a group; kVectors whole ones, or 0: as many as it has.
template <int kVectors, class Body>
REPQUANT_INLINE void over_group(const float* values, std::int64_t width, Body body) {
  if constexpr (kVectors > 0) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) body(values + 16 * v, std::int64_t{16});
  } else {
    over_lanes(width, [&](std::int64_t i, std::int64_t n) { body(values + i, n); });
  }
}

/// The grids as Extent finds them of one row.
template <class V, int kVectors>
void find_grids(GroupSpan& span, int top) {
  static_assert(kGroupsTogether == 16);
  typename V::F lowest[16], highest[16];
  auto bad = V::set(0.0F);
  const auto zero = V::set(0.0F);
  for (int g = 0; g < 16; ++g) {
    // Lanes without a group repeat the first one.
    const int from = g < span.count ? g : 0;
    auto low = V::set(span.begin[from][0]), high = low;
    over_group<kVectors>(span.begin[from], span.widths[from],
                         [&](const float* values, std::int64_t n) {
                           const auto y = n == 16 ? V::load(values) : V::load_n(values, n, *values);
                           low = V::min(low, y);
                           high = V::max(high, y);
                           bad = V::fma(y, zero, bad);
                         });
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
template <class V, int kVectors>
void write_span_codes(const GroupSpan& span, std::uint8_t* codes) {
  const auto code = [&](int g, const float* values, std::int64_t n) {
    const auto y = V::sub(load_lanes<V>(values, n), V::set(span.low[g]));
    return V::to_int(V::mul(y, V::set(span.inverse[g])));
  };
  int g = 0;
  if constexpr (kVectors > 0) {
    // Whole groups have no gaps: four vectors at a time.
    const float* x = span.begin[0];
    const int vectors = span.count * kVectors / 4 * 4;
    for (int v = 0; v < vectors; v += 4, codes += 64) {
      const auto at = [&](int i) { return code((v + i) / kVectors, x + 16 * (v + i), 16); };
      V::store_bytes(codes, at(0), at(1), at(2), at(3));
    }
    g = vectors / kVectors;
  }
  for (; g < span.count; ++g) {
    over_group<kVectors>(span.begin[g], span.widths[g], [&](const float* values, std::int64_t n) {
      store_code_lanes<V>(codes, code(g, values, n), n);
      codes += n;
    });
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

/// Quantizes `rows` rows from x on. kVectors: of each group, or 0 for groups of any width.
template <class V, int kVectors>
void quantize_groups(const GroupArgs& args, const LevelLookup<V>& lookup, const float* x,
                     std::int64_t row, std::int64_t rows, std::uint8_t* scratch) {
  const std::int64_t width = args.width, first = row * width;
  float* grids = args.grids == nullptr ? nullptr : args.grids + 2 * args.groups() * row;
  GroupSpan span;
  const auto write = [&] {
    const std::int64_t place = first + (span.begin[0] - x);
    std::uint8_t* codes = args.codes == nullptr ? scratch : args.codes + place;
    find_grids<V, kVectors>(span, args.top);
    write_span_codes<V, kVectors>(span, codes);
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
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t from = 0; from < width; from += args.group_size) {
      const std::int64_t left = width - from;
      span.add(x + r * width + from, left < args.group_size ? left : args.group_size);
      if (span.count == kGroupsTogether) write();
    }
  }
  if (span.count > 0) write();
}

/// Rows after the norm, at most kRowsTogether.
template <class V>
void normalise_rows(const GroupArgs& args, const float* x, int count, float* out) {
  const std::int64_t width = args.width;
  Normal<V> normals[kRowsTogether];
  find_normals<V>(x, count, width, args.epsilon, args.root_mean_square, normals);
  for (int r = 0; r < count; ++r, x += width, out += width) {
    over_lanes(width, [&](std::int64_t i, std::int64_t n) {
      store_float_lanes<V>(out + i, normalised<V>(normals[r], x, args.weight, args.bias, i, n), n);
    });
  }
}

template <class V>
void group_quantize(const GroupArgs& args, std::int64_t row_begin, std::int64_t row_end,
                    float* scratch) {
  const bool whole = args.width % args.group_size == 0;
  const auto quantize = whole && args.group_size == 32   ? &quantize_groups<V, 2>
                        : whole && args.group_size == 64 ? &quantize_groups<V, 4>
                                                         : &quantize_groups<V, 0>;
  const LevelLookup<V> lookup(args.levels, args.level_count);
  const float* x = args.x + row_begin * args.width;
  if (args.weight == nullptr) {
    quantize(args, lookup, x, row_begin, row_end - row_begin,
             reinterpret_cast<std::uint8_t*>(scratch));
    return;
  }
  for (std::int64_t row = row_begin; row < row_end; row += kRowsTogether) {
    const std::int64_t left = row_end - row;
    const int count = static_cast<int>(left < kRowsTogether ? left : kRowsTogether);
    normalise_rows<V>(args, x, count, scratch);
    quantize(args, lookup, scratch, row, count, nullptr);
    x += count * args.width;
  }
}

}  // namespace
}  // namespace repquant::ops
