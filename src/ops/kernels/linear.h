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

/// sums[r pitch + 16 v ..] = products of kRows rows and kVectors * 16 columns of a panel.
template <class V, int kRows, int kVectors>
void tile(const std::uint8_t* x, std::int64_t stride, const std::int8_t* panel, std::int64_t groups,
          std::int32_t* sums, std::int64_t pitch) {
  typename V::I acc[kRows][kVectors];
  for (auto& row : acc) {
    for (auto& a : row) a = V::set_int(0);
  }
  for (std::int64_t g = 0; g < groups; ++g) {
    typename V::Weights w[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const std::int8_t* bytes = panel + g * kGroupBytes + v * 64;
      V::prefetch(bytes + kPrefetch);
      w[v] = V::load_weights(bytes);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto inputs = V::broadcast(x + r * stride + 4 * g);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) acc[r][v] = V::dot(acc[r][v], inputs, w[v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) V::store_int(sums + r * pitch + 16 * v, acc[r][v]);
  }
}

/// The same from nibbles (codes + 8), unpacked in registers; corrected by 8 times each row's sum.
template <class V, int kRows, int kVectors>
void nibble_tile(const std::uint8_t* x, std::int64_t stride, const std::uint8_t* panel,
                 std::int64_t groups, std::int32_t* sums, std::int64_t pitch) {
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
      V::load_nibbles(bytes + v * 64, low, high);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const std::uint8_t* inputs = x + r * stride + 4 * g;
        acc[r][v] = V::dot(acc[r][v], V::broadcast(inputs), low);
        acc[r][v] = V::dot(acc[r][v], V::broadcast(inputs + 4), high);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    std::int32_t sum = 0;
    for (std::int64_t k = 0; k < 4 * groups; ++k) sum += x[r * stride + k];
    const auto correction = V::set_int(8 * sum);
    for (int v = 0; v < kVectors; ++v) {
      V::store_int(sums + r * pitch + 16 * v, V::sub(acc[r][v], correction));
    }
  }
}

/// Product of up to V::kRows rows and the first `vectors` vectors of a panel of bytes.
template <class V, int kRows>
void tile_columns(const std::uint8_t* x, std::int64_t stride, const std::int8_t* panel,
                  std::int64_t groups, int vectors, std::int32_t* sums, std::int64_t pitch) {
  int v = 0;
  for (; v + V::kVectors <= vectors; v += V::kVectors) {
    tile<V, kRows, V::kVectors>(x, stride, panel + v * 64, groups, sums + 16 * v, pitch);
  }
  for (; v < vectors; ++v)
    tile<V, kRows, 1>(x, stride, panel + v * 64, groups, sums + 16 * v, pitch);
}

template <class V, int kRows = V::kRows>
void tile_rows(int rows, const std::uint8_t* x, std::int64_t stride, const std::int8_t* panel,
               std::int64_t groups, int vectors, std::int32_t* sums, std::int64_t pitch) {
  if (rows == kRows) {
    tile_columns<V, kRows>(x, stride, panel, groups, vectors, sums, pitch);
  } else if constexpr (kRows > 1) {
    tile_rows<V, kRows - 1>(rows, x, stride, panel, groups, vectors, sums, pitch);
  }
}

template <class V, int kRows = V::kRows>
void nibble_tile_rows(int rows, const std::uint8_t* x, std::int64_t stride,
                      const std::uint8_t* panel, std::int64_t groups, int vectors,
                      std::int32_t* sums, std::int64_t pitch) {
  if (rows == kRows) {
    int v = 0;
    for (; v + V::kVectors <= vectors; v += V::kVectors) {
      nibble_tile<V, kRows, V::kVectors>(x, stride, panel + v * 64, groups, sums + 16 * v, pitch);
    }
    for (; v < vectors; ++v) {
      nibble_tile<V, kRows, 1>(x, stride, panel + v * 64, groups, sums + 16 * v, pitch);
    }
  } else if constexpr (kRows > 1) {
    nibble_tile_rows<V, kRows - 1>(rows, x, stride, panel, groups, vectors, sums, pitch);
  }
}

template <class V>
void unpack_panel(const std::uint8_t* panel, std::int64_t groups, std::int8_t* bytes) {
  for (std::int64_t g = 0; g < groups; g += 2) {
    for (int v = 0; v < 4; ++v) {
      typename V::Weights low, high;
      V::load_nibbles(panel + g * (kGroupBytes / 2) + v * 64, low, high);
      V::store_centred(bytes + g * kGroupBytes + v * 64, low);
      V::store_centred(bytes + (g + 1) * kGroupBytes + v * 64, high);
    }
  }
}

/// Writes `rows` rows of a tile whose first column is `column`.
template <class V, Activation kActivation, Output kOutput>
void epilogue(const LinearArgs& args, const std::int32_t* sums, std::int64_t row, int rows,
              std::int64_t column) {
  const std::int64_t live = args.channels - column < kPanel ? args.channels - column : kPanel;
  const auto low = V::set(static_cast<float>(args.low));
  const float top = static_cast<float>(args.high);
  const auto high = V::set(args.quadratic ? top * top : top);
  for (std::int64_t i = 0; i < live; i += 16) {
    const std::int64_t n = live - i < 16 ? live - i : 16;
    const std::int64_t c = column + i;
    const auto compensation = V::load_int(args.compensation + c);
    const auto scale = V::load(args.scale + c), bias = V::load(args.bias + c);
    for (int r = 0; r < rows; ++r) {
      const auto product = V::to_float(V::sub(V::load_int(sums + r * kPanel + i), compensation));
      auto y = V::mul(product, scale);
      if (args.rows != nullptr) {
        const float* grid = args.rows + 2 * (row + r);
        y = V::fma(V::set(grid[0]), V::load(args.sums + c), V::mul(y, V::set(grid[1])));
      }
      y = V::add(y, bias);  // two roundings, as oneDNN: the same bits
      const std::int64_t place = (row + r) * args.channels + c;
      if constexpr (kOutput == Output::kFloat) {
        for (std::int64_t s = 0; s < args.side_count; ++s) {
          y = V::fma(V::set(args.side[(row + r) * args.side_count + s]),
                     V::load(args.side_weight + s * ((args.channels + 63) / 64 * 64) + c), y);
        }
      }
      y = activate<V, kActivation>(y);
      if constexpr (kOutput == Output::kFloat) {
        if (args.residual != nullptr) y = V::add(load_lanes<V>(args.residual + place, n), y);
        store_float_lanes<V>(static_cast<float*>(args.out) + place, y, n);
      } else if constexpr (kOutput == Output::kOperandCodes) {
        const auto q = V::to_int(V::min(V::max(y, low), high));
        store_code_lanes<V>(static_cast<std::int8_t*>(args.out) + place, q, n);
      } else {
        const auto u =
            grid_code<V>(y, V::load(args.multiplier + c), V::load(args.offset + c), high);
        const auto q = args.quadratic ? square_code<V>(u) : V::to_int(u);
        store_code_lanes<V>(static_cast<std::uint8_t*>(args.out) + place, q, n);
      }
    }
  }
}

using Epilogue = void (*)(const LinearArgs&, const std::int32_t*, std::int64_t, int, std::int64_t);

template <class V, Activation kActivation>
Epilogue epilogue_for(Output output) {
  switch (output) {
    case Output::kOperandCodes:
      return &epilogue<V, kActivation, Output::kOperandCodes>;
    case Output::kProductCodes:
      return &epilogue<V, kActivation, Output::kProductCodes>;
    case Output::kFloat:
      break;
  }
  return &epilogue<V, kActivation, Output::kFloat>;
}

template <class V>
Epilogue epilogue_for(Activation activation, Output output) {
  switch (activation) {
    case Activation::kRelu:
      return epilogue_for<V, Activation::kRelu>(output);
    case Activation::kGelu:
      return epilogue_for<V, Activation::kGelu>(output);
    case Activation::kGeluTanh:
      return epilogue_for<V, Activation::kGeluTanh>(output);
    case Activation::kSilu:
      return epilogue_for<V, Activation::kSilu>(output);
    case Activation::kNone:
      break;
  }
  return epilogue_for<V, Activation::kNone>(output);
}

template <class V>
void linear(const LinearArgs& args, std::int64_t row_begin, std::int64_t row_end,
            std::int64_t panel_begin, std::int64_t panel_end, std::uint8_t* scratch) {
  alignas(64) std::int32_t sums[V::kRows * kPanel];
  const Epilogue finish = epilogue_for<V>(args.activation, args.output);
  const std::int64_t stride = 4 * args.groups;
  const std::int64_t bytes_per_panel = panel_bytes(args.groups, args.nibbles);
  // Even tiles: 8 rows are 4 + 4, not 6 + 2.
  const std::int64_t count = row_end - row_begin;
  const std::int64_t tiles = (count + V::kRows - 1) / V::kRows;
  const std::int64_t step_rows = count <= kFewRows ? (count + tiles - 1) / tiles : V::kRows;
  const bool unpack = args.nibbles && count > kFewRows;
  for (std::int64_t p = panel_begin; p < panel_end; ++p) {
    const std::uint8_t* packed = args.weight + p * bytes_per_panel;
    const auto* bytes = reinterpret_cast<const std::int8_t*>(packed);
    if (unpack) {
      auto* unpacked = reinterpret_cast<std::int8_t*>(scratch);
      unpack_panel<V>(packed, args.groups, unpacked);
      bytes = unpacked;
    }
    const std::int64_t column = p * kPanel;
    const std::int64_t live = args.channels - column < kPanel ? args.channels - column : kPanel;
    const int vectors = static_cast<int>((live + 15) / 16);
    for (std::int64_t row = row_begin; row < row_end; row += step_rows) {
      const int rows = static_cast<int>(row_end - row < step_rows ? row_end - row : step_rows);
      const std::uint8_t* x = args.x + row * stride;
      if (args.nibbles && !unpack) {
        nibble_tile_rows<V>(rows, x, stride, packed, args.groups, vectors, sums, kPanel);
      } else {
        tile_rows<V>(rows, x, stride, bytes, args.groups, vectors, sums, kPanel);
      }
      finish(args, sums, row, rows, column);
    }
  }
}

}  // namespace
}  // namespace repquant::ops
