// u8 x s8 matrix product of codes on grids of groups of columns, with weights on scales of the same
// groups. Every lane is an output channel of its own: a group is summed in whole numbers, then
// scaled and added to the groups before, in their order. So a row's result does not depend on the
// instruction set, on the tile that it is in, or on how the weight's codes are unpacked.
#pragma once

#include "ops/kernels/attention_layout.h"
#include "ops/kernels/kernels.h"
#include "ops/kernels/linear.h"
#include "ops/kernels/math.h"
#include "ops/kernels/norm.h"

namespace repquant::ops {
namespace {

// Where a tile's weights come from, kQuads quads of columns at a time. kRead: read_weights() has
// read them and knows their sums; else the tile finds these, too.

/// Bytes in a cache.
template <class V>
struct CachedBytes {
  static constexpr int kQuads = 1;
  static constexpr bool kRead = true;
  void load(const std::uint8_t* place, typename V::Weights (&quads)[kQuads]) const {
    quads[0] = V::load_weights(place);
  }
};

/// Bytes that may come from memory.
template <class V>
struct PackedBytes {
  static constexpr int kQuads = 1;
  static constexpr bool kRead = false;
  explicit PackedBytes(const std::int8_t*) {}
  void load(const std::uint8_t* place, typename V::Weights (&quads)[kQuads]) const {
    V::prefetch(place + kPrefetch);
    quads[0] = V::load_weights(place);
  }
};

/// Nibbles that may come from memory, and are looked up.
template <class V>
struct PackedNibbles {
  static constexpr int kQuads = 2;
  static constexpr bool kRead = false;
  decltype(V::load_levels(nullptr)) levels;

  explicit PackedNibbles(const std::int8_t* table) : levels(V::load_levels(table)) {}
  void load(const std::uint8_t* place, typename V::Weights (&quads)[kQuads]) const {
    V::prefetch(place + kPrefetch);
    V::load_nibbles(place, levels, quads[0], quads[1]);
  }
};

/// Groups of columns, one after the other, of the rows and channels of a tile.
struct GroupRun {
  const std::uint8_t* x = nullptr;  // codes
  std::int64_t stride = 0;
  const float* grids = nullptr;  // low and step of each group
  std::int64_t grid_stride = 0;
  const std::uint8_t* weight = nullptr;
  const float* scale = nullptr;             // [groups, kPanel]
  const float* sums = nullptr;              // the same of weights, scaled, if they have been read
  std::int64_t quads = 0, group_quads = 0;  // of all groups, of a whole one
  std::int32_t padding = 0;                 // as GroupLinearArgs, if the last group is a row's last
  const float* before = nullptr;            // what the groups are added to
  std::int64_t before_stride = 0;           // 0: the same for every row
  float* out = nullptr;                     // may be `before`
  std::int64_t out_stride = 0;
  const float* fetched = nullptr;  // beside `out`, wanted when the tile is done; may be null
  std::int64_t live = kPanel;      // channels; the last vector may lack some

  std::int64_t lanes(int vector) const {
    const std::int64_t left = live - 16 * vector;
    return left < 16 ? left : 16;
  }
  /// What the sum of a group's weights starts from, `left` quads before the end.
  std::int32_t first_sum(std::int64_t left) const { return left <= group_quads ? -padding : 0; }
};

/// Fetches what a tile reads or writes at its end, where waiting for it would stop the next one.
template <class V, int kRows, int kVectors>
REPQUANT_INLINE void fetch_tile(const float* place, std::int64_t stride) {
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) V::prefetch(place + r * stride + 16 * v);
  }
}

/// out = before + sum over groups of step (scale products) + low sums. Not part of its callers,
/// where gcc 12 would not keep sums in registers.
template <class V, class Source, int kRows, int kVectors>
__attribute__((noinline)) void group_tile(const GroupRun& run, const Source& source) {
  typename V::F total[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      total[r][v] = load_lanes<V>(run.before + r * run.before_stride + 16 * v, run.lanes(v));
    }
  }
  const std::uint8_t* rows[kRows];
  const float* grids[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    rows[r] = opaque(run.x + r * run.stride);
    grids[r] = opaque(run.grids + r * run.grid_stride);
  }
  fetch_tile<V, kRows, kVectors>(run.out, run.out_stride);
  if (run.fetched != nullptr) fetch_tile<V, kRows, kVectors>(run.fetched, run.out_stride);
  const std::uint8_t* weight = run.weight;
  std::int64_t column = 0, group = 0;
  for (std::int64_t left = run.quads; left > 0; left -= run.group_quads, ++group) {
    typename V::I acc[kRows][kVectors], weights[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      if constexpr (!Source::kRead) weights[v] = V::set_int(run.first_sum(left));
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) acc[r][v] = V::set_int(0);
    }
    const std::int64_t quads = left < run.group_quads ? left : run.group_quads;
    for (std::int64_t q = 0; q < quads; q += Source::kQuads) {
      // Held are the inputs, of which there are fewer.
      typename V::Inputs input[kRows][Source::kQuads];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (int i = 0; i < Source::kQuads; ++i) {
          input[r][i] = V::broadcast(rows[r] + column + 4 * i);
        }
      }
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        typename V::Weights w[Source::kQuads];
        source.load(weight + 64 * v, w);
#pragma GCC unroll 8
        for (int i = 0; i < Source::kQuads; ++i) {
          if constexpr (!Source::kRead) {
            weights[v] = V::add_quads(weights[v], w[i]);
          }
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) acc[r][v] = V::dot(acc[r][v], input[r][i], w[i]);
        }
      }
      column += 4 * Source::kQuads;
      weight += kGroupBytes;
    }
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const std::int64_t place = group * kPanel + 16 * v;
      const auto scale = V::load(run.scale + place);
      typename V::F sums;
      if constexpr (Source::kRead) {
        sums = V::load(run.sums + place);
      } else {
        sums = V::mul(V::to_float(weights[v]), scale);
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const float* grid = grids[r] + 2 * group;
        const auto product = V::mul(V::to_float(acc[r][v]), scale);
        total[r][v] = V::fma(product, V::set(grid[1]), total[r][v]);
        total[r][v] = V::fma(sums, V::set(grid[0]), total[r][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      store_float_lanes<V>(run.out + r * run.out_stride + 16 * v, total[r][v], run.lanes(v));
    }
  }
}

/// Vectors of a tile: so many that its sums stay in registers.
template <class V>
constexpr int group_vectors(int rows) {
  const int most = V::kGroupSums / rows;
  return most >= 4 ? 4 : most >= 2 ? 2 : 1;
}

/// The same of up to kRows rows and all live channels.
template <class V, class Source, int kRows>
void group_tile_rows(int rows, GroupRun run, const Source& source) {
  if (rows != kRows) {
    if constexpr (kRows > 1) group_tile_rows<V, Source, kRows - 1>(rows, run, source);
    return;
  }
  constexpr int kVectors = group_vectors<V>(kRows);
  const auto advance = [&run](int vectors) {
    run.weight += 64 * vectors;
    run.scale += 16 * vectors;
    run.sums += run.sums == nullptr ? 0 : 16 * vectors;
    run.before += 16 * vectors;
    run.out += 16 * vectors;
    run.fetched += run.fetched == nullptr ? 0 : 16 * vectors;
    run.live -= 16 * vectors;
  };
  for (; run.live > 16 * (kVectors - 1); advance(kVectors)) {
    group_tile<V, Source, kRows, kVectors>(run, source);
  }
  for (; run.live > 0; advance(1)) group_tile<V, Source, kRows, 1>(run, source);
}

/// Reads the weights of a run, writes them as bytes to `bytes` if that is not null, and finds the
/// sums of each group.
template <class V, class Source>
void read_weights(const GroupRun& run, const Source& source, std::int8_t* bytes, float* sums) {
  const std::uint8_t* weight = run.weight;
  const float* scale = run.scale;
  for (std::int64_t left = run.quads; left > 0; left -= run.group_quads) {
    typename V::I sum[4];
    for (auto& s : sum) s = V::set_int(run.first_sum(left));
    const std::int64_t quads = left < run.group_quads ? left : run.group_quads;
    for (std::int64_t q = 0; q < quads; q += Source::kQuads) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        typename V::Weights w[Source::kQuads];
        source.load(weight + 64 * v, w);
#pragma GCC unroll 2
        for (int i = 0; i < Source::kQuads; ++i) {
          sum[v] = V::add_quads(sum[v], w[i]);
          if (bytes != nullptr) V::store_weights(bytes + i * kGroupBytes + 64 * v, w[i]);
        }
      }
      weight += kGroupBytes;
      if (bytes != nullptr) bytes += Source::kQuads * kGroupBytes;
    }
    for (int v = 0; v < 4; ++v) {
      V::store(sums + 16 * v, V::mul(V::to_float(sum[v]), V::load(scale + 16 * v)));
    }
    sums += kPanel;
    scale += kPanel;
  }
}

/// What comes after the products of a tile's rows, which are still in the first-level cache.
template <class V>
void finish_rows(const GroupLinearArgs& args, const GroupRun& run, int rows) {
  float* out = run.out;
  for (int r = 0; r < rows; ++r, out += run.out_stride) {
    activate_array<V>(args.activation, out, run.live);
    if (args.residual == nullptr) continue;
    const float* residual = args.residual + (out - args.out);
    over_lanes(run.live, [&](std::int64_t i, std::int64_t n) {
      const auto y = V::add(load_lanes<V>(residual + i, n), load_lanes<V>(out + i, n));
      store_float_lanes<V>(out + i, y, n);
    });
  }
}

/// A block of a panel's groups with all rows; `run` is of the first one.
template <class V, class Source>
void group_block(const GroupLinearArgs& args, GroupRun run, const Source& source,
                 std::int64_t count, bool last, std::uint8_t* scratch) {
  const auto each_tile = [&](int most, auto multiply) {
    int rows = 0;
    for (std::int64_t left = count; left > 0; left -= rows) {
      rows = next_rows(left, most);
      if (last && args.residual != nullptr) run.fetched = args.residual + (run.out - args.out);
      multiply(rows);
      if (last) finish_rows<V>(args, run, rows);
      run.x += rows * run.stride;
      run.grids += rows * run.grid_stride;
      run.before += rows * run.before_stride;
      run.out += rows * run.out_stride;
    }
  };
  if (count <= kFewRows) {
    each_tile(V::kGroupFewRows,
              [&](int rows) { group_tile_rows<V, Source, V::kGroupFewRows>(rows, run, source); });
    return;
  }
  auto* sums = reinterpret_cast<float*>(scratch + args.unpacked_bytes());
  read_weights<V>(run, source,
                  args.levels == nullptr ? nullptr : reinterpret_cast<std::int8_t*>(scratch), sums);
  if (args.levels != nullptr) run.weight = scratch;
  run.sums = sums;
  each_tile(V::kGroupRows, [&](int rows) {
    group_tile_rows<V, CachedBytes<V>, V::kGroupRows>(rows, run, CachedBytes<V>());
  });
}

template <class V, class Source>
void group_linear_from(const GroupLinearArgs& args, std::int64_t row_begin, std::int64_t row_end,
                       std::int64_t panel_begin, std::int64_t panel_end, std::uint8_t* scratch) {
  const Source source(args.levels);
  const std::int64_t groups = args.groups(), block_quads = args.block_quads();
  const std::int64_t quad_bytes = kGroupBytes / Source::kQuads;
  const bool finishes = args.activation != Activation::kNone || args.residual != nullptr;
  GroupRun run;
  run.stride = 4 * args.quads;
  run.grid_stride = 2 * groups;
  run.group_quads = args.group_quads;
  run.out_stride = args.channels;
  for (std::int64_t p = panel_begin; p < panel_end; ++p) {
    const std::int64_t channel = p * kPanel;
    run.live = args.channels - channel < kPanel ? args.channels - channel : kPanel;
    run.out = args.out + row_begin * args.channels + channel;
    run.before = args.bias + channel;
    run.before_stride = 0;
    for (std::int64_t first = 0; first < args.quads; first += block_quads) {
      const std::int64_t group = first / args.group_quads;
      run.quads = args.quads - first < block_quads ? args.quads - first : block_quads;
      const bool last = first + block_quads >= args.quads;
      run.padding = last ? args.padding : 0;
      run.weight = args.weight + (p * args.quads + first) * quad_bytes;
      run.scale = args.scale + (p * groups + group) * kPanel;
      run.x = args.x + row_begin * run.stride + 4 * first;
      run.grids = args.grids + (row_begin * groups + group) * 2;
      group_block<V>(args, run, source, row_end - row_begin, last && finishes, scratch);
      run.before = run.out;
      run.before_stride = run.out_stride;
    }
  }
}

template <class V>
void group_linear(const GroupLinearArgs& args, std::int64_t row_begin, std::int64_t row_end,
                  std::int64_t panel_begin, std::int64_t panel_end, std::uint8_t* scratch) {
  const auto multiply = args.levels != nullptr ? &group_linear_from<V, PackedNibbles<V>>
                                               : &group_linear_from<V, PackedBytes<V>>;
  multiply(args, row_begin, row_end, panel_begin, panel_end, scratch);
}

}  // namespace
}  // namespace repquant::ops
