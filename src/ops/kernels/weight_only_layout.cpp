#include "ops/kernels/weight_only_layout.h"

#include <cstring>

namespace repquant::ops {
namespace {

std::uint32_t nibble(const std::uint8_t* codes, std::int64_t column) {
  return codes[column / 2] >> (column % 2 * 4) & 15U;
}

}  // namespace

void pack_weight_only(const std::uint8_t* codes, const float* scale, std::int64_t channels,
                      std::int64_t columns, const ColumnLayout& layout, bool nibbles,
                      std::uint8_t* packed, float* packed_scale) {
  const std::int64_t groups = layout.groups(), bytes = step_bytes(nibbles);
  const std::int64_t stored = nibbles ? (columns + 1) / 2 : columns;
  for (std::int64_t n = 0; n < channels; ++n) {
    const std::int64_t panel = n / kPanel, lane = n % kPanel;
    const std::uint8_t* row = codes + n * stored;
    for (std::int64_t g = 0; g < groups; ++g) {
      packed_scale[(panel * groups + g) * kPanel + lane] = scale[n * groups + g];
    }
    layout.each_chunk([&](const Chunk& chunk) {
      std::uint8_t* out = packed + (panel * layout.steps() + chunk.first_step) * bytes;
      for (std::int64_t k = 0; k < chunk.width; k += kStep) {
        std::uint8_t* step = out + k / kStep * bytes;
        std::uint32_t word = 0;
        for (std::int64_t j = 0; j < kStep && k + j < chunk.width; ++j) {
          if (nibbles) {
            word |= nibble(row, chunk.column + k + j) << (4 * j);
          } else {
            step[j * kPanel + lane] = row[chunk.column + k + j];
          }
        }
        if (nibbles) std::memcpy(step + 4 * lane, &word, sizeof(word));
      }
    });
  }
}

void arrange_row(const float* x, const ColumnLayout& layout, bool nibbles, float* arranged,
                 float* offsets) {
  // The last nibble is shifted down, the others are masked where they are.
  constexpr float kPlaces[2][kStep] = {
      {1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F},
      {1.0F, 0x1p-4F, 0x1p-8F, 0x1p-12F, 0x1p-16F, 0x1p-20F, 0x1p-24F, 1.0F}};
  const float* places = kPlaces[nibbles ? 1 : 0];
  layout.each_chunk([&](const Chunk& chunk) {
    const float* from = x + chunk.column;
    float* to = arranged + chunk.first_step * kStep;
    float sums[kStep] = {};
    std::int64_t k = 0;
    for (; k + kStep <= chunk.width; k += kStep) {
      for (std::int64_t j = 0; j < kStep; ++j) {
        sums[j] += from[k + j];
        to[k + j] = from[k + j] * places[j];
      }
    }
    for (std::int64_t j = 0; k + j < chunk.steps * kStep; ++j) {
      const float value = k + j < chunk.width ? from[k + j] : 0.0F;
      sums[j] += value;
      to[k + j] = value * places[j];
    }
    const float sum =
        ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
    offsets[chunk.index] = nibbles ? -8.0F * sum : 0.0F;
  });
}

}  // namespace repquant::ops
