// Attention on int8 codes: integer scores, codes of exp(score - row maximum), integer product with
// the values, one division per output. A few rows at a time, so that scores stay in the first
// cache.
#pragma once

#include "ops/kernels/attention_layout.h"
#include "ops/kernels/bytes.h"
#include "ops/kernels/kernels.h"
#include "ops/kernels/linear.h"
#include "ops/kernels/math.h"

namespace repquant::ops {
namespace {

/// Keys as the right operand of a product over channels: panel, group of four channels, key.
template <class V>
void pack_keys(const std::int8_t* key, std::int64_t stride, std::int64_t columns,
               std::int64_t depth, const AttentionLayout& layout, std::uint8_t* packed) {
  for (std::int64_t s = 0; s < layout.width; s += 16) {
    const std::int64_t left = columns - s;
    const int live = static_cast<int>(left < 0 ? 0 : left < 16 ? left : 16);
    std::uint8_t* to = packed + s / kPanel * layout.groups * kGroupBytes + s % kPanel * 4;
    for (std::int64_t c = 0; c < depth; c += 64) {
      const Rows rows{live > 0 ? key + s * stride + c : key, stride, live,
                      depth - c < 64 ? depth - c : 64};
      V::transpose(rows, to + c / 4 * kGroupBytes, kGroupBytes);
    }
  }
}

/// Values as the right operand of a product over keys: panel, group of four keys, channel.
template <class V>
void pack_values(const std::int8_t* value, std::int64_t stride, std::int64_t columns,
                 std::int64_t depth, const AttentionLayout& layout, std::uint8_t* packed) {
  for (std::int64_t p = 0; p < layout.value_panels; ++p) {
    const std::int64_t live = depth - p * kPanel < kPanel ? depth - p * kPanel : kPanel;
    for (std::int64_t g = 0; g < layout.value_groups; ++g) {
      const std::int64_t left = columns - 4 * g;
      const Rows rows{value + 4 * g * stride + p * kPanel, stride,
                      static_cast<int>(left < 4 ? left : 4), live};
      V::interleave(rows, packed + (p * layout.value_groups + g) * kGroupBytes);
    }
  }
}

/// (128 + zero) times each key's sum: what makes unsigned query codes right.
template <class V>
void key_shifts(const std::uint8_t* keys, const AttentionLayout& layout, std::int32_t factor,
                std::int32_t* shifts) {
  const std::uint8_t ones[4] = {1, 1, 1, 1};
  const auto one = V::broadcast(ones);
  for (std::int64_t p = 0; p < layout.panels; ++p) {
    for (int v = 0; v < 4; ++v) {
      auto sum = V::set_int(0);
      for (std::int64_t g = 0; g < layout.groups; ++g) {
        sum = V::dot(sum, one,
                     V::load_weights(keys + (p * layout.groups + g) * kGroupBytes + v * 64));
      }
      V::store_int(shifts + p * kPanel + 16 * v, V::mul(sum, V::set_int(factor)));
    }
  }
}

/// Signed query codes plus 128, rows padded to whole groups (keys are 0 there).
inline void shift_query(const std::int8_t* query, std::int64_t stride, std::int64_t rows,
                        std::int64_t depth, std::int64_t padded, std::uint8_t* out) {
  for (std::int64_t r = 0; r < rows; ++r) {
    std::uint8_t* to = out + r * padded;
    for (std::int64_t c = 0; c < depth; ++c) {  // without channels there may be no queries
      to[c] = static_cast<std::uint8_t>(query[r * stride + c] + 128);
    }
    for (std::int64_t c = depth; c < padded; ++c) to[c] = 0;
  }
}

/// Weights as integers in one or two planes.
template <class V, SoftmaxCode kCode>
struct Weigher {
  static constexpr int kPlanes = kCode == SoftmaxCode::kLog ? 2 : 1;

  Weigher(const AttentionArgs& args, float factor)
      : half_octaves(args.steps == 2),
        scale(V::set(kCode == SoftmaxCode::kUniform ? factor : -factor)),
        octaves_of_top(V::set(__builtin_log2f(static_cast<float>(args.max_code)))),
        // Codes from `limit` on mean 0; without a zero code the last code is used instead.
        limit(V::set_int(args.zero_code ? args.max_code : args.max_code + 1)),
        last(V::set(static_cast<float>(args.zero_code ? 256 : args.max_code))),
        step(V::set(-1.0F / args.steps)) {}

  /// Of kCount vectors `x`, score - row maximum, which are used up. They go through each step side
  /// by side: one after the other, what waits for its operands would fill the processor's queues.
  template <int kCount>
  REPQUANT_INLINE void weigh(typename V::F (&x)[kCount], typename V::I (&first)[kCount],
                             typename V::I (&second)[kCount]) const {
    if constexpr (kCode == SoftmaxCode::kUniform) {  // max_code 2^(x scale)
      for_each<kCount>([&](int k) { x[k] = V::fma(x[k], scale, octaves_of_top); });
      exp2_each<V>(x);
      for_each<kCount>([&](int k) { first[k] = V::to_int(x[k]); });
      return;
    }
    typename V::I code[kCount];
    for_each<kCount>([&](int k) { code[k] = V::to_int(V::min(V::mul(x[k], scale), last)); });
    if constexpr (kCode == SoftmaxCode::kTable) {
      for_each<kCount>([&](int k) { x[k] = V::mul(V::to_float(code[k]), step); });
      exp2_each<V>(x);
      for_each<kCount>([&](int k) {
        first[k] = V::where_less(V::to_int(V::mul(x[k], V::set(255.0F))), code[k], limit);
      });
      return;
    }
    // 2 steps: planes of even and odd codes, 2^(7 - c / 2). 1 step: of c below 8 and above.
    for_each<kCount>([&](int k) {
      const auto power =
          half_octaves ? V::template shift_right<1>(code[k]) : V::bit_and(code[k], V::set_int(7));
      const auto plane =
          half_octaves ? V::bit_and(code[k], V::set_int(1)) : V::template shift_right<3>(code[k]);
      const auto w = V::where_less(V::shift_right(V::set_int(128), power), code[k], limit);
      first[k] = V::where_equal(w, plane, V::set_int(0));
      second[k] = V::sub(w, first[k]);
    });
  }

  bool half_octaves;
  typename V::F scale, octaves_of_top;
  typename V::I limit;
  typename V::F last, step;
};

struct RowSums {
  std::int32_t plane[2] = {0, 0};
};

alignas(64) inline constexpr std::int32_t kLanes[16] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                        8, 9, 10, 11, 12, 13, 14, 15};

/// One row of integer products; with a mask or scales of tokens they become float32 scores in the
/// same place.
struct RowScores {
  std::int32_t* scores;
  const float* mask = nullptr;
  const float* key_scale = nullptr;
  float scale = 1;
};

inline bool floating_scores(const AttentionArgs& args) {
  return args.mask != nullptr || args.query_scale != nullptr;
}

/// Integer products to scores: shifts subtracted. Returns their maximum in all lanes.
template <class V>
typename V::I largest_score(const AttentionArgs& args, const RowScores& row,
                            const std::int32_t* shifts) {
  const auto score = [&](std::int64_t i) {
    const auto s = V::sub(V::load_int(row.scores + i), V::load_int(shifts + i));
    V::store_int(row.scores + i, s);
    return s;
  };
  const auto lowest = V::set_int(INT32_MIN);
  auto most = lowest;
  std::int64_t i = 0;
  for (; i + 16 <= args.columns; i += 16) most = V::max(most, score(i));
  if (i < args.columns) {  // columns that there are not count as the smallest number
    const auto live = V::set_int(static_cast<std::int32_t>(args.columns - i));
    const auto above = V::where_less(V::sub(score(i), lowest), V::load_int(kLanes), live);
    most = V::max(most, V::add(above, lowest));
  }
  return V::set_int(V::largest(most));
}

/// The same with a mask or scales of tokens: scores become float32 in place, -infinity beyond the
/// last column.
template <class V>
float largest_masked(const AttentionArgs& args, const RowScores& row, const std::int32_t* shifts) {
  auto* masked = reinterpret_cast<float*>(row.scores);
  constexpr float kInfinity = __builtin_inff();
  const auto score = [&](std::int64_t i, std::int64_t n) {
    const auto s = V::sub(V::load_int(row.scores + i), V::load_int(shifts + i));
    auto scale = V::set(row.scale);
    if (row.key_scale != nullptr) scale = V::mul(scale, load_lanes<V>(row.key_scale + i, n));
    auto y = V::mul(V::to_float(s), scale);
    if (row.mask != nullptr) {
      y = V::add(
          y, args.mask_column_stride == 0 ? V::set(row.mask[0]) : load_lanes<V>(row.mask + i, n));
    }
    V::store(masked + i, y);
    return y;
  };
  auto most = V::set(-kInfinity);
  std::int64_t i = 0;
  for (; i + 16 <= args.columns; i += 16) most = V::max(most, score(i, 16));
  if (i < args.columns) {
    score(i, args.columns - i);
    for (std::int64_t lane = args.columns; lane < i + 16; ++lane) masked[lane] = -kInfinity;
    most = V::max(most, V::load(masked + i));
  }
  return V::largest(most);
}

/// Turns `columns` differences from the row's maximum into planes of weights.
template <class V, SoftmaxCode kCode, class Difference>
RowSums weigh_row(std::int64_t columns, const Weigher<V, kCode>& weigher, std::uint8_t* first,
                  std::uint8_t* second, Difference difference) {
  constexpr bool kTwo = Weigher<V, kCode>::kPlanes == 2;
  auto sum0 = V::set_int(0), sum1 = sum0;
  const auto write = [&](std::int64_t i, typename V::I w0, typename V::I w1) {
    V::store_bytes(first + i, w0);
    sum0 = V::add(sum0, w0);
    if constexpr (kTwo) {
      V::store_bytes(second + i, w1);
      sum1 = V::add(sum1, w1);
    }
  };
  std::int64_t i = 0;
  constexpr int kTogether = 4;
  for (; i + 16 * kTogether <= columns; i += 16 * kTogether) {
    typename V::F x[kTogether];
    typename V::I w0[kTogether], w1[kTogether];
    for_each<kTogether>([&](int k) { x[k] = difference(i + 16 * k); });
    weigher.weigh(x, w0, w1);
    for_each<kTogether>([&](int k) { write(i + 16 * k, w0[k], w1[k]); });
  }
  for (; i < columns; i += 16) {
    typename V::F x[1] = {difference(i)};
    typename V::I w0[1], w1[1];
    weigher.weigh(x, w0, w1);
    // What lies beyond the last column weighs nothing.
    const auto lane = V::load_int(kLanes);
    const auto live = V::set_int(static_cast<std::int32_t>(columns - i));
    write(i, V::where_less(w0[0], lane, live), kTwo ? V::where_less(w1[0], lane, live) : w0[0]);
  }
  return {{V::sum(sum0), kTwo ? V::sum(sum1) : 0}};
}

/// Turns rows of integer products into planes of weights, `width` apart.
template <class V, SoftmaxCode kCode>
void weigh_rows(const AttentionArgs& args, const Weigher<V, kCode>& weigher,
                const std::int32_t* shifts, const RowScores* rows, int count, std::int64_t width,
                std::uint8_t* const planes[2], RowSums* sums) {
  // All maxima first: a row does not wait for its own.
  if (!floating_scores(args)) {
    typename V::I most[AttentionLayout::kMaxRows];
    for (int r = 0; r < count; ++r) most[r] = largest_score<V>(args, rows[r], shifts);
    for (int r = 0; r < count; ++r) {
      sums[r] = weigh_row<V, kCode>(
          args.columns, weigher, planes[0] + r * width, planes[1] + r * width, [&](std::int64_t i) {
            return V::to_float(V::sub(V::load_int(rows[r].scores + i), most[r]));
          });
    }
    return;
  }
  float most[AttentionLayout::kMaxRows];
  for (int r = 0; r < count; ++r) most[r] = largest_masked<V>(args, rows[r], shifts);
  for (int r = 0; r < count; ++r) {
    std::uint8_t *first = planes[0] + r * width, *second = planes[1] + r * width;
    if (most[r] == -__builtin_inff()) {  // masked throughout: weights 0
      __builtin_memset(first, 0, static_cast<std::size_t>(width));
      __builtin_memset(second, 0, static_cast<std::size_t>(width));
      sums[r] = {};
      continue;
    }
    const auto* masked = reinterpret_cast<const float*>(rows[r].scores);
    const auto largest = V::set(most[r]);
    sums[r] = weigh_row<V, kCode>(args.columns, weigher, first, second, [&](std::int64_t i) {
      return V::sub(V::load(masked + i), largest);
    });
  }
}

/// Product with the values, division and output of one row.
template <class V, int kPlanes>
void finish_row(const AttentionArgs& args, std::int64_t head, const RowSums& sums,
                float second_weight, const std::int32_t* first, const std::int32_t* second,
                std::int64_t channel, void* out) {
  const float total = static_cast<float>(sums.plane[0]) +
                      (kPlanes == 2 ? second_weight * static_cast<float>(sums.plane[1]) : 0.0F);
  const auto inverse = V::set(1.0F / (total > 0 ? total : 1.0F));
  const std::int32_t* zeros = args.value_zero + head * args.value_zero_stride + channel;
  const auto sum0 = V::set_int(sums.plane[0]), sum1 = V::set_int(sums.plane[1]);
  const auto low = V::set(0.5F), high = V::set(static_cast<float>(args.output_max_code) + 0.5F);
  const std::int64_t left = args.value_depth - channel, live = left < kPanel ? left : kPanel;
  const auto vector_of = [&](const float* p, std::int64_t by_head, std::int64_t by_depth,
                             std::int64_t c, std::int64_t n) {
    p += head * by_head + c * by_depth;
    return by_depth == 0 ? V::set(*p) : load_lanes<V>(p, n);
  };
  // Codes and their zero point may be 255 apart, which int32 holds for half of kMostKeys.
  const bool wide = args.columns > INT32_MAX / (255 * 255);
  const auto without_zero = [&](typename V::I codes, typename V::I zero, typename V::I sum) {
    if (!wide) return V::to_float(V::sub(codes, V::mul(zero, sum)));
    return V::sub(V::to_float(codes), V::mul(V::to_float(zero), V::to_float(sum)));
  };
  for (std::int64_t i = 0; i < live; i += 16) {
    const std::int64_t n = live - i < 16 ? live - i : 16, c = channel + i;
    const auto zero = V::load_int(zeros + i);
    auto y = without_zero(V::load_int(first + i), zero, sum0);
    if (kPlanes == 2) {
      y = V::fma(without_zero(V::load_int(second + i), zero, sum1), V::set(second_weight), y);
    }
    y = V::mul(V::mul(y, inverse),
               vector_of(args.multiplier, args.multiplier_head, args.multiplier_depth, c, n));
    if (args.output_max_code == 0) {
      V::store_n(static_cast<float*>(out) + c, y, n);
    } else {
      const auto offset = vector_of(args.offset, args.offset_head, args.offset_depth, c, n);
      y = V::min(V::max(V::add(y, V::add(offset, V::set(0.5F))), low), high);
      store_code_lanes<V>(static_cast<std::uint8_t*>(out) + c, V::truncate(y), n);
    }
  }
}

template <class V, SoftmaxCode kCode>
void attend_head(const AttentionArgs& args, std::int64_t batch, std::int64_t head,
                 std::uint8_t* scratch) {
  constexpr int kPlanes = Weigher<V, kCode>::kPlanes;
  static_assert(V::kRows <= AttentionLayout::kMaxRows);
  const AttentionLayout layout(args);
  std::uint8_t *keys = scratch + layout.keys, *values = scratch + layout.values;
  auto* shifts = reinterpret_cast<std::int32_t*>(scratch + layout.shifts);
  std::uint8_t* query = scratch + layout.query;
  auto* scores = reinterpret_cast<std::int32_t*>(scratch + layout.scores);
  std::uint8_t* planes[2] = {scratch + layout.planes,
                             scratch + layout.planes + AttentionLayout::kMaxRows * layout.width};
  const auto start = [&](const std::int8_t* p, const Strides& s) {
    return p == nullptr ? p : p + batch * s.batch + head * s.head;  // that of an empty tensor
  };
  pack_keys<V>(start(args.key, args.key_strides), args.key_strides.row, args.columns, args.depth,
               layout, keys);
  pack_values<V>(start(args.value, args.value_strides), args.value_strides.row, args.columns,
                 args.value_depth, layout, values);
  key_shifts<V>(keys, layout, 128 + args.query_zero[head], shifts);
  const std::int64_t stride = 4 * layout.groups;
  shift_query(start(args.query, args.query_strides), args.query_strides.row, args.rows, args.depth,
              stride, query);
  const Weigher<V, kCode> weigher(args, args.factor[head]);
  const float second_weight = args.steps == 2 ? 0.70710678118654752F : 0.00390625F;
  const std::int64_t vectors = (args.columns + 15) / 16;
  const std::int64_t item = args.output_max_code == 0 ? 4 : 1;
  for (std::int64_t row = 0; row < args.rows; row += V::kRows) {
    const int rows =
        static_cast<int>(args.rows - row < V::kRows ? args.rows - row : std::int64_t{V::kRows});
    alignas(64) std::int32_t sums[2][AttentionLayout::kMaxRows * kPanel];
    for (std::int64_t p = 0; p < layout.panels; ++p) {
      const std::int64_t left = vectors - 4 * p;
      tile_rows<V, FetchAhead<V>>(
          rows, query + row * stride, stride,
          reinterpret_cast<const std::int8_t*>(keys) + p * layout.groups * kGroupBytes,
          layout.groups, static_cast<int>(left < 4 ? left : 4), scores + p * kPanel, layout.width);
    }
    RowSums row_sums[AttentionLayout::kMaxRows];
    RowScores row_scores[AttentionLayout::kMaxRows];
    for (int r = 0; r < rows; ++r) {
      row_scores[r].scores = scores + r * layout.width;
      if (!floating_scores(args)) continue;
      row_scores[r].scale = args.score_scale[head];
      if (args.mask != nullptr) {
        row_scores[r].mask = args.mask + batch * args.mask_strides.batch +
                             head * args.mask_strides.head + (row + r) * args.mask_strides.row;
      }
      if (args.query_scale == nullptr) continue;
      const Strides &q = args.query_scale_strides, &k = args.key_scale_strides;
      row_scores[r].scale *= args.query_scale[batch * q.batch + head * q.head + (row + r) * q.row];
      row_scores[r].key_scale = args.key_scale + batch * k.batch + head * k.head;
    }
    weigh_rows<V, kCode>(args, weigher, shifts, row_scores, rows, layout.width, planes, row_sums);
    for (std::int64_t p = 0; p < layout.value_panels; ++p) {
      const std::int64_t live = args.value_depth - p * kPanel;
      const int channels = static_cast<int>(live < kPanel ? (live + 15) / 16 : 4);
      for (int plane = 0; plane < kPlanes; ++plane) {
        tile_rows<V, FetchAhead<V>>(
            rows, planes[plane], layout.width,
            reinterpret_cast<const std::int8_t*>(values) + p * layout.value_groups * kGroupBytes,
            layout.value_groups, channels, sums[plane], kPanel);
      }
      for (int r = 0; r < rows; ++r) {
        auto* out = static_cast<std::uint8_t*>(args.out) +
                    item * (batch * args.out_strides.batch + head * args.out_strides.head +
                            (row + r) * args.out_strides.row);
        finish_row<V, kPlanes>(args, head, row_sums[r], second_weight, sums[0] + r * kPanel,
                               sums[1] + r * kPanel, p * kPanel, out);
      }
    }
  }
}

template <class V>
void attention(const AttentionArgs& args, std::int64_t begin, std::int64_t end,
               std::uint8_t* scratch) {
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t batch = i / args.heads, head = i % args.heads;
    switch (args.code) {
      case SoftmaxCode::kLog:
        attend_head<V, SoftmaxCode::kLog>(args, batch, head, scratch);
        break;
      case SoftmaxCode::kTable:
        attend_head<V, SoftmaxCode::kTable>(args, batch, head, scratch);
        break;
      case SoftmaxCode::kUniform:
        attend_head<V, SoftmaxCode::kUniform>(args, batch, head, scratch);
        break;
    }
  }
}

}  // namespace
}  // namespace repquant::ops
