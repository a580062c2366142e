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
          const std::int64_t pair = j / 2, half = j % 2;
          if (nibbles) {
            word |= nibble(row, chunk.column + k + j) << (4 * pair + 16 * half);
          } else {
            step[(pair * kPanel + lane) * 2 + half] = row[chunk.column + k + j];
          }
        }
        if (nibbles) std::memcpy(step + 4 * lane, &word, sizeof(word));
      }
    });
  }
}

}  // namespace repquant::ops
