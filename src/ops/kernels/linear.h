// u8 x s8 matrix product in tiles of a few rows by one panel of output channels, with the epilogue
// applied to each tile while it is in the first-level cache.
#pragma once

#include "ops/kernels/attention_layout.h"
#include "ops/kernels/kernels.h"
#include "ops/kernels/math.h"
#include "ops/kernels/norm.h"

namespace repquant::ops {
namespace {

/// How far ahead weights are fetched: the hardware does not look beyond a page.
inline constexpr std::int64_t kPrefetch = 8192;

/// Of a tile that has nothing else to do than its products, from a panel that is in the cache.
struct NoWork {
  REPQUANT_INLINE void fetch(const std::int8_t*, std::int64_t) const {}
  REPQUANT_INLINE void beside() const {}
};

/// The same from a panel that may come from memory.
template <class V>
struct FetchAhead : NoWork {
  REPQUANT_INLINE void fetch(const std::int8_t* weights, std::int64_t) const {
#pragma GCC unroll 8
    for (int v = 0; v < V::kVectors; ++v) V::prefetch(weights + 64 * v + kPrefetch);
  }
};

/// sums[r pitch + 16 v ..] = products of kRows rows and kVectors * 16 columns of a panel. After
/// each group of inputs comes a part of `work`: products keep two of a core's ports busy, and what
/// finishes other rows runs on the rest of them meanwhile.
template <class V, int kRows, int kVectors, class Work>
REPQUANT_INLINE void tile(const std::uint8_t* x, std::int64_t stride, const std::int8_t* panel,
                          std::int64_t groups, std::int32_t* sums, std::int64_t pitch, Work& work) {
  typename V::I acc[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) acc[r][v] = V::set_int(0);
  }
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int8_t* weights = panel + g * kGroupBytes;
    work.fetch(weights, g);
    typename V::Weights w[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) w[v] = V::load_weights(weights + v * 64);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto inputs = V::broadcast(x + r * stride + 4 * g);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) acc[r][v] = V::dot(acc[r][v], inputs, w[v]);
    }
    work.beside();
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) V::store_int(sums + r * pitch + 16 * v, acc[r][v]);
  }
}

/// The same from nibbles, looked up in registers.
template <class V, int kRows, int kVectors>
void nibble_tile(const std::uint8_t* x, std::int64_t stride, const std::uint8_t* panel,
                 const std::int8_t* levels, std::int64_t groups, std::int32_t* sums,
                 std::int64_t pitch) {
  const auto table = V::load_levels(levels);
  typename V::I acc[kRows][kVectors];
  for (auto& row : acc) {
    for (auto& a : row) a = V::set_int(0);
  }
  for (std::int64_t g = 0; g < groups; g += 2) {
    const std::uint8_t* bytes = panel + g * (kGroupBytes / 2);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      typename V::Weights low, high;
      V::prefetch(bytes + kPrefetch + v * 64);
      V::load_nibbles(bytes + v * 64, table, low, high);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const std::uint8_t* inputs = x + r * stride + 4 * g;
        acc[r][v] = V::dot(acc[r][v], V::broadcast(inputs), low);
        acc[r][v] = V::dot(acc[r][v], V::broadcast(inputs + 4), high);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) V::store_int(sums + r * pitch + 16 * v, acc[r][v]);
  }
}

/// Product of kRows rows and the first `vectors` vectors of a panel of bytes.
template <class V, int kRows, class Work>
void tile_columns(const std::uint8_t* x, std::int64_t stride, const std::int8_t* panel,
                  std::int64_t groups, int vectors, std::int32_t* sums, std::int64_t pitch) {
  Work work;
  int v = 0;
  for (; v + V::kVectors <= vectors; v += V::kVectors) {
    tile<V, kRows, V::kVectors>(x, stride, panel + v * 64, groups, sums + 16 * v, pitch, work);
  }
  if constexpr (V::kVectors > 2) {
    if (v + 2 <= vectors) {
      tile<V, kRows, 2>(x, stride, panel + v * 64, groups, sums + 16 * v, pitch, work);
      v += 2;
    }
  }
  for (; v < vectors; ++v) {
    tile<V, kRows, 1>(x, stride, panel + v * 64, groups, sums + 16 * v, pitch, work);
  }
}

/// The same of up to V::kRows rows.
template <class V, class Work, int kRows = V::kRows>
void tile_rows(int rows, const std::uint8_t* x, std::int64_t stride, const std::int8_t* panel,
               std::int64_t groups, int vectors, std::int32_t* sums, std::int64_t pitch) {
  if (rows == kRows) {
    tile_columns<V, kRows, Work>(x, stride, panel, groups, vectors, sums, pitch);
  } else if constexpr (kRows > 1) {
    tile_rows<V, Work, kRows - 1>(rows, x, stride, panel, groups, vectors, sums, pitch);
  }
}

template <class V, int kRows = V::kRows>
void nibble_tile_rows(int rows, const std::uint8_t* x, std::int64_t stride,
                      const std::uint8_t* panel, const std::int8_t* levels, std::int64_t groups,
                      int vectors, std::int32_t* sums, std::int64_t pitch) {
  if (rows == kRows) {
    int v = 0;
    for (; v + V::kVectors <= vectors; v += V::kVectors) {
      nibble_tile<V, kRows, V::kVectors>(x, stride, panel + v * 64, levels, groups, sums + 16 * v,
                                         pitch);
    }
    for (; v < vectors; ++v) {
      nibble_tile<V, kRows, 1>(x, stride, panel + v * 64, levels, groups, sums + 16 * v, pitch);
    }
  } else if constexpr (kRows > 1) {
    nibble_tile_rows<V, kRows - 1>(rows, x, stride, panel, levels, groups, vectors, sums, pitch);
  }
}

template <class V>
void unpack_panel(const std::uint8_t* panel, const std::int8_t* levels, std::int64_t groups,
                  std::int8_t* bytes) {
  const auto table = V::load_levels(levels);
  for (std::int64_t g = 0; g < groups; g += 2) {
    for (int v = 0; v < 4; ++v) {
      typename V::Weights low, high;
      V::load_nibbles(panel + g * (kGroupBytes / 2) + v * 64, table, low, high);
      V::store_weights(bytes + g * kGroupBytes + v * 64, low);
      V::store_weights(bytes + (g + 1) * kGroupBytes + v * 64, high);
    }
  }
}

/// Of the output codes, or of their squares.
struct Limits {
  float low, high;
  explicit Limits(const LinearArgs& args)
      : low(static_cast<float>(args.low)),
        high(static_cast<float>(args.quadratic ? args.high * args.high : args.high)) {}
};

/// Writes 16 columns (n of them) of a row from the integer products.
template <class V, Activation kActivation, Output kOutput>
REPQUANT_INLINE void finish_vector(const LinearArgs& args, const Limits& limits,
                                   const std::int32_t* sums, std::int64_t row, std::int64_t c,
                                   std::int64_t n) {
  const auto product = V::to_float(V::sub(V::load_int(sums), V::load_int(args.compensation + c)));
  auto y = V::mul(product, V::load(args.scale + c));
  if (args.rows != nullptr) {
    const float* grid = args.rows + 2 * row;
    y = V::fma(V::set(grid[0]), V::load(args.sums + c), V::mul(y, V::set(grid[1])));
  }
  y = V::add(y, V::load(args.bias + c));  // two roundings, as oneDNN: the same bits
  const std::int64_t place = row * args.channels + c;
  if constexpr (kOutput == Output::kFloat) {
    for (std::int64_t s = 0; s < args.side_count; ++s) {
      y = V::fma(V::set(args.side[row * args.side_count + s]),
                 V::load(args.side_weight + s * ((args.channels + 63) / 64 * 64) + c), y);
    }
  }
  y = activate<V, kActivation>(y);
  if constexpr (kOutput == Output::kFloat) {
    if (args.residual != nullptr) y = V::add(load_lanes<V>(args.residual + place, n), y);
    store_float_lanes<V>(static_cast<float*>(args.out) + place, y, n);
  } else if constexpr (kOutput == Output::kOperandCodes) {
    const auto q = V::to_int(V::min(V::max(y, V::set(limits.low)), V::set(limits.high)));
    store_code_lanes<V>(static_cast<std::int8_t*>(args.out) + place, q, n);
  } else {
    const auto u = grid_value<V>(y, V::load(args.multiplier + c), V::load(args.offset + c),
                                 V::set(opaque(&limits)->high));
    const auto q = args.quadratic ? square_code<V>(u) : V::to_int(u);
    store_code_lanes<V>(static_cast<std::uint8_t*>(args.out) + place, q, n);
  }
}

/// A tile whose products are there and whose outputs are not written yet.
template <class V, Activation kActivation, Output kOutput>
struct Unfinished {
  // Parts of a row's step: a long burst of other work leaves the products idle.
  static constexpr int kSplit = kActivation == Activation::kNone ? 1 : 2;
  static constexpr int kMostSteps = V::kRows * kSplit;
  const LinearArgs args;
  const Limits limits{args};
  const std::int32_t* sums = nullptr;
  std::int64_t row = 0, column = 0;
  int rows = 0;
  // Beside another tile: groups between two steps of a whole one, steps, those done, and groups
  // until the next.
  const int chunk = static_cast<int>(args.groups < kMostSteps ? 1 : args.groups / kMostSteps);
  int steps = 0, done = 0, wait = 0;
  const std::uint8_t* ahead = nullptr;  // of the next panel: a line is fetched for each group

  void begin(const std::uint8_t* fetched) {
    ahead = fetched;
    done = 0;
    steps = rows * kSplit;
    wait = chunk;
  }
  REPQUANT_INLINE void fetch(const std::int8_t*, std::int64_t group) const {
    V::prefetch_far(ahead + 64 * group);
  }
  REPQUANT_INLINE void beside() {
    if (--wait > 0) return;
    wait = chunk;
    if (done < steps) step();
  }
  REPQUANT_INLINE void step() {
    const std::int64_t part = done % kSplit * (kPanel / kSplit), r = done / kSplit;
#pragma GCC unroll 4
    for (int v = 0; v < 4 / kSplit; ++v) {
      finish_vector<V, kActivation, kOutput>(args, limits, sums + r * kPanel + part + 16 * v,
                                             row + r, column + part + 16 * v, 16);
    }
    ++done;
  }
  /// Whether its steps can be taken: it has rows, and all columns of its panel.
  bool whole() const { return rows > 0 && column + kPanel <= args.channels; }
  void finish() {
    for (int r = 0; r < rows; ++r) {
      for (std::int64_t c = column; c < args.channels && c < column + kPanel; c += 16) {
        const std::int64_t left = args.channels - c;
        finish_vector<V, kActivation, kOutput>(args, limits, sums + r * kPanel + (c - column),
                                               row + r, c, left < 16 ? left : 16);
      }
    }
    rows = 0;
  }
};

/// Rows of the next tile of `left`: the last two share what is left, so that no row is done twice
/// and none has few rows, which would wait for each other's sums.
inline int next_rows(std::int64_t left, int most) {
  if (left >= 2 * most) return most;
  return static_cast<int>(left > most ? (left + 1) / 2 : left);
}

/// Fetches what is added to a tile while its products are made: its rows lie apart, and waiting for
/// them would stop the products of the next tile.
template <class V>
REPQUANT_INLINE void fetch_residual(const LinearArgs& args, std::int64_t row, std::int64_t column) {
  const float* part = args.residual + row * args.channels + column;
  for (int r = 0; r < V::kRows; ++r, part += args.channels) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) V::prefetch(part + 16 * v);
  }
}

template <class V, Activation kActivation, Output kOutput>
void linear_as(const LinearArgs& args, std::int64_t row_begin, std::int64_t row_end,
               std::int64_t panel_begin, std::int64_t panel_end, std::uint8_t* scratch) {
  alignas(64) std::int32_t sums[2][V::kRows * kPanel];
  const std::int64_t stride = 4 * args.groups;
  const std::int64_t bytes_per_panel = panel_bytes(args.groups, args.levels != nullptr);
  const bool nibbles = args.levels != nullptr && row_end - row_begin <= kFewRows;
  const bool unpack = args.levels != nullptr && !nibbles;
  Unfinished<V, kActivation, kOutput> last{args};
  int turn = 0;
  for (std::int64_t p = panel_begin; p < panel_end; ++p) {
    const std::uint8_t* packed = args.weight + p * bytes_per_panel;
    const auto* bytes = reinterpret_cast<const std::int8_t*>(packed);
    if (unpack) {
      auto* unpacked = reinterpret_cast<std::int8_t*>(scratch);
      unpack_panel<V>(packed, args.levels, args.groups, unpacked);
      bytes = unpacked;
    }
    const std::uint8_t* next = p + 1 < panel_end ? packed + bytes_per_panel : packed;
    const std::int64_t column = p * kPanel;
    const std::int64_t live = args.channels - column < kPanel ? args.channels - column : kPanel;
    const int vectors = static_cast<int>((live + 15) / 16);
    int rows = 0;
    for (std::int64_t row = row_begin; row < row_end; row += rows) {
      rows = next_rows(row_end - row, V::kRows);
      const std::uint8_t* x = args.x + row * stride;
      std::int32_t* to = sums[turn];
      turn = 1 - turn;
      bool done = false;
      if constexpr (V::kOverlaps) {
        if (rows == V::kRows && vectors == 4 && last.whole() && !nibbles) {
          // Four tiles fetch the next panel, which may still be in memory.
          const std::int64_t quarter = (row - row_begin) / V::kRows;
          last.begin(next + (quarter < 4 ? quarter : 0) * (bytes_per_panel / 4));
          if constexpr (kOutput == Output::kFloat) {
            if (args.residual_far) fetch_residual<V>(args, row, column);
          }
          tile<V, V::kRows, 4>(x, stride, bytes, args.groups, to, kPanel, last);
          while (last.done < last.steps) last.step();
          done = true;
        }
      }
      if (!done) {
        last.finish();
        if (nibbles) {
          nibble_tile_rows<V>(rows, x, stride, packed, args.levels, args.groups, vectors, to,
                              kPanel);
        } else {
          tile_rows<V, FetchAhead<V>>(rows, x, stride, bytes, args.groups, vectors, to, kPanel);
        }
      }
      last.sums = to;
      last.row = row;
      last.column = column;
      last.rows = rows;
    }
  }
  last.finish();
}

using LinearKernel = decltype(Kernels::linear);

/// A family: one kernel for each activation and output.
template <class V>
struct TiledLinear {
  template <Activation kActivation, Output kOutput>
  static constexpr LinearKernel kernel = &linear_as<V, kActivation, kOutput>;
};

template <class Family, Activation kActivation>
LinearKernel linear_for(Output output) {
  switch (output) {
    case Output::kOperandCodes:
      return Family::template kernel<kActivation, Output::kOperandCodes>;
    case Output::kProductCodes:
      return Family::template kernel<kActivation, Output::kProductCodes>;
    case Output::kFloat:
      break;
  }
  return Family::template kernel<kActivation, Output::kFloat>;
}

template <class Family>
LinearKernel linear_for(Activation activation, Output output) {
  switch (activation) {
    case Activation::kRelu:
      return linear_for<Family, Activation::kRelu>(output);
    case Activation::kGelu:
      return linear_for<Family, Activation::kGelu>(output);
    case Activation::kGeluTanh:
      return linear_for<Family, Activation::kGeluTanh>(output);
    case Activation::kSilu:
      return linear_for<Family, Activation::kSilu>(output);
    case Activation::kHardswish:
      return linear_for<Family, Activation::kHardswish>(output);
    case Activation::kNone:
      break;
  }
  return linear_for<Family, Activation::kNone>(output);
}

template <class Family>
void linear(const LinearArgs& args, std::int64_t row_begin, std::int64_t row_end,
            std::int64_t panel_begin, std::int64_t panel_end, std::uint8_t* scratch) {
  linear_for<Family>(args.activation, args.output)(args, row_begin, row_end, panel_begin, panel_end,
                                                   scratch);
}

}  // namespace
}  // namespace repquant::ops
