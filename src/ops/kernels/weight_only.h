// Product of rows of 16-bit inputs with packed weight codes, in tiles of a few rows by some vectors
// of output channels. Every lane is a channel of its own: a chunk of columns is summed in whole
// numbers, then scaled and added to the sum of the chunks before. So a row's result does not depend
// on the instruction set, on the tile that it is in, or on whether codes are unpacked in registers
// (few rows: the weight is read once) or into a buffer (many).
#pragma once

#include <bit>
#include <limits>

#include "ops/kernels/kernels.h"
#include "ops/kernels/linear.h"
#include "ops/kernels/math.h"
#include "ops/kernels/norm.h"
#include "ops/kernels/weight_only_layout.h"

namespace repquant::ops {
namespace {

// Weights of a step: two quads of columns, of each of which get() has pair i for 16 channels in
// 16-bit numbers, + kWeightOffset. `line` is the line of a step to come that is fetched with a
// vector of a quad (-1: none), one at a time: a burst of fetches holds the products up.

inline constexpr int kQuads = 2;
/// Of a step of nibbles, of a quad of bytes and of an unpacked pair.
inline constexpr std::int64_t kChannelBytes = 4;

/// Quads in registers.
template <class V>
struct LoadedQuads {
  static typename V::I get(typename V::Weights quad, int i) {
    return i == 0 ? V::even_bytes(quad) : V::odd_bytes(quad);
  }
};

/// Numbers of levels, which are looked up.
template <class V>
struct Nibbles : LoadedQuads<V> {
  decltype(V::load_levels(nullptr)) levels;

  explicit Nibbles(const std::uint8_t* table)
      : levels(V::load_levels(reinterpret_cast<const std::int8_t*>(table))) {}
  static std::int64_t step(int) { return step_bytes(true); }
  typename V::Weights load(const std::uint8_t* step, int quad, int) const {
    typename V::Weights low, high;
    V::load_nibbles(step, levels, low, high);
    return quad == 0 ? low : high;
  }
  static constexpr std::int64_t line(int quad, int v) { return v % 2 == quad ? 64 * v : -1; }
};

template <class V>
struct Bytes : LoadedQuads<V> {
  explicit Bytes(const std::uint8_t*) {}
  static std::int64_t step(int) { return step_bytes(false); }
  static typename V::Weights load(const std::uint8_t* step, int quad, int) {
    return V::load_weights(step + quad * 4 * kPanel);
  }
  static constexpr std::int64_t line(int quad, int v) { return quad * 4 * kPanel + 64 * v; }
};

/// Unpacked pairs, `vectors` vectors beside each other.
template <class V>
struct Unpacked {
  struct Quad {
    const std::uint8_t* place;
    int vectors;
  };

  static std::int64_t step(int vectors) { return kQuads * 2 * vectors * 64; }
  static Quad load(const std::uint8_t* step, int quad, int vectors) {
    return {step + quad * 2 * vectors * 64, vectors};
  }
  static typename V::I get(Quad quad, int i) {
    return V::load_int(reinterpret_cast<const std::int32_t*>(quad.place + i * quad.vectors * 64));
  }
  static constexpr std::int64_t line(int, int) { return -1; }
};

/// Inputs of a tile's first row.
struct ChunkInputs {
  const std::int16_t* x = nullptr;
  std::int64_t stride = 0;
  const InputChunk* chunk = nullptr;
  std::int64_t chunk_stride = 0;
};

/// totals[r kPanel + 16 v ..] += scale * step * (offset + product of kRows rows and kVectors
/// vectors).
template <class V, class Source, int kRows, int kVectors>
void chunk_tile(const ChunkInputs& in, const Source& source, const std::uint8_t* weight,
                std::int64_t steps, const float* scale, float* totals) {
  typename V::I acc[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const auto offset = V::set_int(in.chunk[r * in.chunk_stride].offset);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) acc[r][v] = offset;
  }
  // Pointers of their own: gcc makes one of them out of sums that it keeps on the stack.
  const std::int16_t* inputs[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) inputs[r] = opaque(in.x + r * in.stride);
  for (std::int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 8
    for (int quad = 0; quad < kQuads; ++quad) {
      decltype(source.load(weight, 0, 0)) quads[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const std::int64_t line = Source::line(quad, v);
        if (line >= 0) V::prefetch(weight + line + kPrefetch);
        quads[v] = source.load(weight + v * 16 * kChannelBytes, quad, kVectors);
      }
#pragma GCC unroll 8
      for (int i = 0; i < 2; ++i) {
        const std::int64_t k = s * kStep + 4 * quad + 2 * i;
        // Held is what there is less of, so that the accumulators stay in registers.
        if constexpr (kRows <= kVectors) {
          typename V::I input[kRows];
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) input[r] = V::broadcast_pair(inputs[r] + k);
#pragma GCC unroll 8
          for (int v = 0; v < kVectors; ++v) {
            const auto w = Source::get(quads[v], i);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) acc[r][v] = V::dot_pairs(acc[r][v], input[r], w);
          }
        } else {
          typename V::I w[kVectors];
#pragma GCC unroll 8
          for (int v = 0; v < kVectors; ++v) w[v] = Source::get(quads[v], i);
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) {
            const auto input = V::broadcast_pair(inputs[r] + k);
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) acc[r][v] = V::dot_pairs(acc[r][v], input, w[v]);
          }
        }
      }
    }
    weight += Source::step(kVectors);
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const auto unit = V::set(in.chunk[r * in.chunk_stride].step);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      float* total = totals + r * kPanel + 16 * v;
      const auto sum = V::mul(V::to_float(acc[r][v]), unit);
      V::store(total, V::fma(sum, V::load(scale + 16 * v), V::load(total)));
    }
  }
}

/// Vectors of a tile read from the packed weight: as many as its rows leave accumulators for.
template <class V>
constexpr int packed_vectors(int rows) {
  const int most = V::kPairRows * V::kPairVectors / rows;
  return most >= 4 ? 4 : most >= 2 ? 2 : 1;
}

/// All of a panel's live channels, from the packed weight.
template <class V, class Source, int kRows = V::kPairRows>
void packed_tile_rows(int rows, const ChunkInputs& in, const Source& source,
                      const std::uint8_t* weight, std::int64_t steps, const float* scale,
                      int vectors, float* totals) {
  if (rows == kRows) {
    constexpr int kVectors = packed_vectors<V>(kRows);
    int v = 0;
    for (; v + kVectors <= vectors; v += kVectors) {
      chunk_tile<V, Source, kRows, kVectors>(in, source, weight + v * 16 * kChannelBytes, steps,
                                             scale + 16 * v, totals + 16 * v);
    }
    for (; v < vectors; ++v) {
      chunk_tile<V, Source, kRows, 1>(in, source, weight + v * 16 * kChannelBytes, steps,
                                      scale + 16 * v, totals + 16 * v);
    }
  } else if constexpr (kRows > 1) {
    packed_tile_rows<V, Source, kRows - 1>(rows, in, source, weight, steps, scale, vectors, totals);
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

/// kPairVectors vectors of a block's unpacked weights; `in` is of the rows' first columns.
template <class V, int kRows = V::kPairRows>
void block_tile_rows(int rows, const ChunkInputs& in, const Block& block,
                     const std::uint8_t* weight, const float* scale, float* totals) {
  if (rows == kRows) {
    for (int i = 0; i < block.count; ++i) {
      const Chunk& chunk = block.chunks[i];
      const std::int64_t place = chunk.first_step - block.first_step();
      chunk_tile<V, Unpacked<V>, kRows, V::kPairVectors>(
          {in.x + chunk.first_step * kStep, in.stride, in.chunk + chunk.index, in.chunk_stride},
          Unpacked<V>(), weight + place * Unpacked<V>::step(V::kPairVectors), chunk.steps,
          scale + chunk.group * kPanel, totals);
    }
  } else if constexpr (kRows > 1) {
    block_tile_rows<V, kRows - 1>(rows, in, block, weight, scale, totals);
  }
}

/// Steps of a panel -> [channels / 16 kPairVectors][step][pair][16 kPairVectors][2] int16.
template <class V, class Source>
void unpack_steps(const Source& source, const std::uint8_t* packed, std::int64_t steps,
                  std::uint8_t* out) {
  constexpr std::int64_t kWidth = 16 * V::kPairVectors;
  for (std::int64_t part = 0; part < kPanel / kWidth; ++part) {
    for (std::int64_t s = 0; s < steps; ++s) {
      const std::uint8_t* from = packed + s * Source::step(0) + part * kWidth * kChannelBytes;
#pragma GCC unroll 8
      for (int quad = 0; quad < kQuads; ++quad) {
#pragma GCC unroll 8
        for (int v = 0; v < V::kPairVectors; ++v) {
          const auto loaded = source.load(from + v * 16 * kChannelBytes, quad, 0);
#pragma GCC unroll 8
          for (int i = 0; i < 2; ++i) {
            const std::int64_t vector = (quad * 2 + i) * V::kPairVectors + v;
            V::store_int(reinterpret_cast<std::int32_t*>(out + vector * 64),
                         Source::get(loaded, i));
          }
        }
      }
      out += Unpacked<V>::step(V::kPairVectors);
    }
  }
}

/// A panel's product with a few rows; each chunk of the weight is read once.
template <class V, class Source>
void few_rows(const WeightOnlyArgs& args, std::int64_t row_begin, std::int64_t row_end,
              std::int64_t panel, int vectors, float* totals) {
  const ColumnLayout layout(args.columns, args.group_size);
  const std::int64_t chunks = layout.chunks();
  const Source source(args.levels);
  const std::uint8_t* weight = args.weight + panel * layout.steps() * Source::step(0);
  const float* scale = args.scale + panel * layout.groups() * kPanel;
  const std::int64_t count = row_end - row_begin;
  const std::int64_t tiles = (count + V::kPairRows - 1) / V::kPairRows;
  const std::int64_t step_rows = (count + tiles - 1) / tiles;
  layout.each_chunk([&](const Chunk& chunk) {
    for (std::int64_t row = row_begin; row < row_end; row += step_rows) {
      const int rows = static_cast<int>(row_end - row < step_rows ? row_end - row : step_rows);
      const ChunkInputs in{args.x + row * args.stride + chunk.first_step * kStep, args.stride,
                           args.chunks + row * chunks + chunk.index, chunks};
      packed_tile_rows<V, Source>(rows, in, source, weight + chunk.first_step * Source::step(0),
                                  chunk.steps, scale + chunk.group * kPanel, vectors,
                                  totals + (row - row_begin) * kPanel);
    }
  });
}

/// A panel's product with many rows; kUnpackedColumns columns at a time are unpacked.
template <class V, class Source>
void many_rows(const WeightOnlyArgs& args, std::int64_t row_begin, std::int64_t row_end,
               std::int64_t panel, int vectors, float* totals, std::uint8_t* unpacked) {
  constexpr std::int64_t kWidth = 16 * V::kPairVectors;
  const ColumnLayout layout(args.columns, args.group_size);
  const std::int64_t chunks = layout.chunks();
  const Source source(args.levels);
  const std::uint8_t* weight = args.weight + panel * layout.steps() * Source::step(0);
  const float* scale = args.scale + panel * layout.groups() * kPanel;
  Block block;
  const auto multiply = [&] {
    unpack_steps<V>(source, weight + block.first_step() * Source::step(0), block.steps(), unpacked);
    for (std::int64_t part = 0; part * V::kPairVectors < vectors; ++part) {
      const std::uint8_t* weights =
          unpacked + part * block.steps() * Unpacked<V>::step(V::kPairVectors);
      for (std::int64_t row = row_begin; row < row_end; row += V::kPairRows) {
        const int rows =
            static_cast<int>(row_end - row < V::kPairRows ? row_end - row : V::kPairRows);
        block_tile_rows<V>(
            rows, {args.x + row * args.stride, args.stride, args.chunks + row * chunks, chunks},
            block, weights, scale + part * kWidth,
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

/// Of a chunk of inputs whose largest magnitude has these bits.
struct Power {
  float step = 0.0F, inverse = 0.0F;

  explicit Power(std::int32_t bits) {
    constexpr std::int32_t kNotFinite = 255, kLowest = 15;
    const std::int32_t exponent = bits >> 23;
    if (exponent == kNotFinite) {
      step = std::numeric_limits<float>::quiet_NaN();
    } else if (exponent >= kLowest) {
      step = std::bit_cast<float>((exponent - 14) << 23);
      inverse = std::bit_cast<float>((268 - exponent) << 23);
    }
  }
};

/// Rows of inputs, rounded to 16 bits by chunks: step 2^(e - 14) where the largest of a chunk has
/// the exponent e. A step is NaN where a value is not finite, 0 where all are below 2^-112.
template <class V>
void round_inputs(const WeightOnlyInputs& args, std::int64_t row_begin, std::int64_t row_end) {
  constexpr std::int32_t kMost = 32767;
  const ColumnLayout layout(args.columns, args.group_size);
  const std::int64_t chunks = layout.chunks();
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const float* x = args.x + row * args.columns;
    std::int16_t* out = args.out + row * args.stride;
    InputChunk* found = args.chunks + row * chunks;
    layout.each_chunk([&](const Chunk& chunk) {
      const float* from = x + chunk.column;
      auto largest = V::set_int(0);
      over_lanes(chunk.width, [&](std::int64_t i, std::int64_t n) {
        largest = V::max(largest, V::bits(V::abs(load_lanes<V>(from + i, n))));
      });
      const Power power(V::largest(largest));
      const auto multiplier = V::set(power.inverse);
      auto sum = V::set_int(0);
      over_lanes(chunk.width, [&](std::int64_t i, std::int64_t n) {
        const auto rounded = V::to_int(V::mul(load_lanes<V>(from + i, n), multiplier));
        const auto q = V::max(V::min(rounded, V::set_int(kMost)), V::set_int(-kMost - 1));
        sum = V::add(sum, q);
        // Past the chunk's end, too: the next one is written later, a row has room behind it.
        V::store_shorts(out + chunk.first_step * kStep + i, q);
      });
      found[chunk.index] = {power.step, -kWeightOffset * V::sum(sum)};
    });
  }
}

template <class V>
void weight_only(const WeightOnlyArgs& args, std::int64_t row_begin, std::int64_t row_end,
                 std::int64_t panel_begin, std::int64_t panel_end, std::uint8_t* scratch) {
  const std::int64_t count = row_end - row_begin;
  auto* totals = reinterpret_cast<float*>(scratch);
  std::uint8_t* unpacked = scratch + 4 * count * kPanel;
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
      const auto product =
          args.levels != nullptr ? &few_rows<V, Nibbles<V>> : &few_rows<V, Bytes<V>>;
      product(args, row_begin, row_end, p, vectors, totals);
    } else {
      const auto product =
          args.levels != nullptr ? &many_rows<V, Nibbles<V>> : &many_rows<V, Bytes<V>>;
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
