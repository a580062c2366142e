// Product of float rows with packed weight codes, in tiles of a few rows by some vectors of output
// channels. Every lane is a channel of its own: a chunk of columns is summed one after the other,
// then scaled and added to the sum of the chunks before. So a row's result does not depend on the
// instruction set, on the tile that it is in, or on whether codes are unpacked in registers (few
// rows: the weight is read once) or into a buffer (many).
#pragma once

#include "ops/kernels/kernels.h"
#include "ops/kernels/linear.h"
#include "ops/kernels/math.h"
#include "ops/kernels/norm.h"
#include "ops/kernels/weight_only_layout.h"

namespace repquant::ops {
namespace {

// Weights of a step, as floats: column j of the vector of 16 channels that `step` points to.
// `Column` is what all vectors of a column share; `line` the line of a step to come that is fetched
// with a vector of a column (-1: none), one at a time: a burst of fetches holds the products up.

/// (code + 8) 16^j, and code + 8 in the last column: the input is divided by the power.
template <class V>
struct Nibbles {
  static constexpr std::int64_t kBytes = 4;  // of a channel
  static constexpr std::int32_t kMasks[kStep] = {15,       15 << 4,  15 << 8,  15 << 12,
                                                 15 << 16, 15 << 20, 15 << 24, 0};
  using Column = typename V::I;
  static std::int64_t step(int) { return step_bytes(true); }
  static Column column(int j) { return V::broadcast_int(opaque(&kMasks[0]) + j); }
  static typename V::F get(const std::uint8_t* step, int j, int, Column mask) {
    const auto words = V::load_int(reinterpret_cast<const std::int32_t*>(step));
    return V::to_float(j == kStep - 1 ? V::template shift_right_logical<28>(words)
                                      : V::bit_and(words, mask));
  }
  static constexpr int line(int j, int v) { return j == 2 * v ? 64 * v : -1; }
};

template <class V>
struct Bytes {
  static constexpr std::int64_t kBytes = 1;
  using Column = int;
  static std::int64_t step(int) { return step_bytes(false); }
  static Column column(int) { return 0; }
  static typename V::F get(const std::uint8_t* step, int j, int, Column) {
    return V::to_float(V::load_bytes(reinterpret_cast<const std::int8_t*>(step) + j * kPanel));
  }
  static constexpr int line(int j, int v) { return v == 0 ? 64 * j : -1; }
};

/// Unpacked, `vectors` vectors beside each other.
template <class V>
struct Floats {
  static constexpr std::int64_t kBytes = 4;
  using Column = int;
  static std::int64_t step(int vectors) { return kStep * vectors * 64; }
  static Column column(int) { return 0; }
  static typename V::F get(const std::uint8_t* step, int j, int vectors, Column) {
    return V::load(reinterpret_cast<const float*>(step) + j * vectors * 16);
  }
  static constexpr int line(int, int) { return -1; }
};

/// Inputs of a tile's first row.
struct ChunkInputs {
  const float* x = nullptr;
  std::int64_t stride = 0;
  const float* offsets = nullptr;
  std::int64_t offset_stride = 0;
};

/// totals[r kPanel + 16 v ..] += scale * (offset + product of kRows rows and kVectors vectors).
template <class V, class Source, int kRows, int kVectors>
void chunk_tile(const ChunkInputs& in, const std::uint8_t* weight, std::int64_t steps,
                const float* scale, float* totals) {
  typename V::F acc[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const auto offset = V::set(in.offsets[r * in.offset_stride]);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) acc[r][v] = offset;
  }
  // Pointers of their own: gcc makes one of them out of sums that it keeps on the stack.
  const float* inputs[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) inputs[r] = opaque(in.x + r * in.stride);
  for (std::int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 8
    for (int j = 0; j < kStep; ++j) {
      const auto column = Source::column(j);
      // Where a weight is used once or twice, its vectors are loaded for each column anew.
      const std::uint8_t* step = kRows <= kVectors ? opaque(weight) : weight;
      const std::int64_t k = s * kStep + j;
      // Held is what there is less of, so that the accumulators stay in registers.
      if constexpr (kRows <= kVectors) {
        typename V::F input[kRows];
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) input[r] = V::set(inputs[r][k]);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
          if (const int line = Source::line(j, v); line >= 0) V::prefetch(step + line + kPrefetch);
          const auto w = Source::get(step + v * 16 * Source::kBytes, j, kVectors, column);
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) acc[r][v] = V::fma(input[r], w, acc[r][v]);
        }
      } else {
        typename V::F w[kVectors];
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
          if (const int line = Source::line(j, v); line >= 0) V::prefetch(step + line + kPrefetch);
          w[v] = Source::get(step + v * 16 * Source::kBytes, j, kVectors, column);
        }
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const auto input = V::set(inputs[r][k]);
#pragma GCC unroll 8
          for (int v = 0; v < kVectors; ++v) acc[r][v] = V::fma(input, w[v], acc[r][v]);
        }
      }
    }
    weight += Source::step(kVectors);
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    const auto scales = V::load(scale + 16 * v);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      float* total = totals + r * kPanel + 16 * v;
      V::store(total, V::fma(acc[r][v], scales, V::load(total)));
    }
  }
}

/// Vectors of a tile read from the packed weight: as many as its rows leave accumulators for.
template <class V>
constexpr int packed_vectors(int rows) {
  const int most = V::kFloatRows * V::kFloatVectors / rows;
  return most >= 4 ? 4 : most >= 2 ? 2 : 1;
}

/// All of a panel's live channels, from the packed weight.
template <class V, class Source, int kRows = V::kFloatRows>
void packed_tile_rows(int rows, const ChunkInputs& in, const std::uint8_t* weight,
                      std::int64_t steps, const float* scale, int vectors, float* totals) {
  if (rows == kRows) {
    constexpr int kVectors = packed_vectors<V>(kRows);
    int v = 0;
    for (; v + kVectors <= vectors; v += kVectors) {
      chunk_tile<V, Source, kRows, kVectors>(in, weight + v * 16 * Source::kBytes, steps,
                                             scale + 16 * v, totals + 16 * v);
    }
    for (; v < vectors; ++v) {
      chunk_tile<V, Source, kRows, 1>(in, weight + v * 16 * Source::kBytes, steps, scale + 16 * v,
                                      totals + 16 * v);
    }
  } else if constexpr (kRows > 1) {
    packed_tile_rows<V, Source, kRows - 1>(rows, in, weight, steps, scale, vectors, totals);
  }
}

/// Chunks that are unpacked beside each other.
struct Block {
  Chunk chunks[kUnpackedColumns / kStep];
  int count = 0;

  std::int64_t first_step() const { return chunks[0].first_step; }
  std::int64_t steps() const {
    return chunks[count - 1].first_step + chunks[count - 1].steps - first_step();
  }
  bool has_room(const Chunk& chunk) const {
    return count == 0 || chunk.first_step + chunk.steps - first_step() <= kUnpackedColumns / kStep;
  }
};

/// kFloatVectors vectors of a block's unpacked weights; `in` is of the rows' first columns.
template <class V, int kRows = V::kFloatRows>
void block_tile_rows(int rows, const ChunkInputs& in, const Block& block, const float* weight,
                     const float* scale, float* totals) {
  if (rows == kRows) {
    for (int i = 0; i < block.count; ++i) {
      const Chunk& chunk = block.chunks[i];
      const std::int64_t place = (chunk.first_step - block.first_step()) * kStep;
      chunk_tile<V, Floats<V>, kRows, V::kFloatVectors>(
          {in.x + chunk.first_step * kStep, in.stride, in.offsets + chunk.index, in.offset_stride},
          reinterpret_cast<const std::uint8_t*>(weight + place * 16 * V::kFloatVectors),
          chunk.steps, scale + chunk.group * kPanel, totals);
    }
  } else if constexpr (kRows > 1) {
    block_tile_rows<V, kRows - 1>(rows, in, block, weight, scale, totals);
  }
}

/// Steps of a panel -> [channels / 16 kFloatVectors][step][column][16 kFloatVectors] floats.
template <class V, class Source>
void unpack_steps(const std::uint8_t* packed, std::int64_t steps, float* out) {
  constexpr std::int64_t kWidth = 16 * V::kFloatVectors;
  for (std::int64_t part = 0; part < kPanel / kWidth; ++part) {
    for (std::int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 8
      for (int j = 0; j < kStep; ++j) {
        for (int v = 0; v < V::kFloatVectors; ++v) {
          const std::uint8_t* from =
              packed + s * Source::step(0) + (part * kWidth + 16 * v) * Source::kBytes;
          V::store(out + 16 * v, Source::get(from, j, 0, Source::column(j)));
        }
        out += kWidth;
      }
    }
  }
}

/// A panel's product with a few rows; each chunk of the weight is read once.
template <class V, class Source>
void few_rows(const WeightOnlyArgs& args, std::int64_t row_begin, std::int64_t row_end,
              std::int64_t panel, int vectors, float* totals) {
  const ColumnLayout layout(args.columns, args.group_size);
  const std::int64_t chunks = layout.chunks();
  const std::uint8_t* weight = args.weight + panel * layout.steps() * Source::step(0);
  const float* scale = args.scale + panel * layout.groups() * kPanel;
  const std::int64_t count = row_end - row_begin;
  const std::int64_t tiles = (count + V::kFloatRows - 1) / V::kFloatRows;
  const std::int64_t step_rows = (count + tiles - 1) / tiles;
  layout.each_chunk([&](const Chunk& chunk) {
    for (std::int64_t row = row_begin; row < row_end; row += step_rows) {
      const int rows = static_cast<int>(row_end - row < step_rows ? row_end - row : step_rows);
      const ChunkInputs in{args.x + row * args.stride + chunk.first_step * kStep, args.stride,
                           args.offsets + row * chunks + chunk.index, chunks};
      packed_tile_rows<V, Source>(rows, in, weight + chunk.first_step * Source::step(0),
                                  chunk.steps, scale + chunk.group * kPanel, vectors,
                                  totals + (row - row_begin) * kPanel);
    }
  });
}

/// A panel's product with many rows; kUnpackedColumns columns at a time are unpacked.
template <class V, class Source>
void many_rows(const WeightOnlyArgs& args, std::int64_t row_begin, std::int64_t row_end,
               std::int64_t panel, int vectors, float* totals, float* unpacked) {
  constexpr std::int64_t kWidth = 16 * V::kFloatVectors;
  const ColumnLayout layout(args.columns, args.group_size);
  const std::int64_t chunks = layout.chunks();
  const std::uint8_t* weight = args.weight + panel * layout.steps() * Source::step(0);
  const float* scale = args.scale + panel * layout.groups() * kPanel;
  Block block;
  const auto multiply = [&] {
    unpack_steps<V, Source>(weight + block.first_step() * Source::step(0), block.steps(), unpacked);
    for (std::int64_t part = 0; part * V::kFloatVectors < vectors; ++part) {
      const float* floats = unpacked + part * block.steps() * kStep * kWidth;
      for (std::int64_t row = row_begin; row < row_end; row += V::kFloatRows) {
        const int rows =
            static_cast<int>(row_end - row < V::kFloatRows ? row_end - row : V::kFloatRows);
        block_tile_rows<V>(
            rows, {args.x + row * args.stride, args.stride, args.offsets + row * chunks, chunks},
            block, floats, scale + part * kWidth,
            totals + (row - row_begin) * kPanel + part * kWidth);
      }
    }
    block.count = 0;
  };
  layout.each_chunk([&](const Chunk& chunk) {
    if (!block.has_room(chunk)) multiply();
    block.chunks[block.count++] = chunk;
  });
  multiply();
}

template <class V>
void weight_only(const WeightOnlyArgs& args, std::int64_t row_begin, std::int64_t row_end,
                 std::int64_t panel_begin, std::int64_t panel_end, float* scratch) {
  const std::int64_t count = row_end - row_begin;
  float* totals = scratch;
  float* unpacked = totals + count * kPanel;
  for (std::int64_t p = panel_begin; p < panel_end; ++p) {
    const std::int64_t column = p * kPanel;
    const std::int64_t live = args.channels - column < kPanel ? args.channels - column : kPanel;
    const int vectors = static_cast<int>((live + 15) / 16);
    for (std::int64_t r = 0; r < count; ++r) {
      for (std::int64_t i = 0; i < kPanel; i += 16) {
        V::store(totals + r * kPanel + i, V::load(args.bias + column + i));
      }
    }
    if (count <= kFewRows) {
      const auto product = args.nibbles ? &few_rows<V, Nibbles<V>> : &few_rows<V, Bytes<V>>;
      product(args, row_begin, row_end, p, vectors, totals);
    } else {
      const auto product = args.nibbles ? &many_rows<V, Nibbles<V>> : &many_rows<V, Bytes<V>>;
      product(args, row_begin, row_end, p, vectors, totals, unpacked);
    }
    activate_array<V>(args.activation, totals, count * kPanel);
    for (std::int64_t r = 0; r < count; ++r) {
      float* out = args.out + (row_begin + r) * args.channels + column;
      over_lanes(live, [&](std::int64_t i, std::int64_t n) {
        store_float_lanes<V>(out + i, V::load(totals + r * kPanel + i), n);
      });
    }
  }
}

}  // namespace
}  // namespace repquant::ops
