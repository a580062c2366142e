#include "ops/kernels/weight_only_layout.h"

namespace repquant::ops {
namespace {

int nibble(const std::uint8_t* codes, std::int64_t column) {
  return codes[column / 2] >> (column % 2 * 4) & 15;
}

/// Where a column of a quad is.
std::int64_t place(std::int64_t column) { return column % 2 * 2 + column / 2; }

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
      for (std::int64_t k = 0; k < chunk.width; ++k) {
        std::uint8_t* step = out + k / kStep * bytes;
        const std::int64_t quad = k % kStep / 4, byte = lane * 4 + place(k % 4);
        const std::int64_t column = chunk.column + k;
        if (nibbles) {
          step[byte] = static_cast<std::uint8_t>(step[byte] | nibble(row, column) << (4 * quad));
        } else {
          step[quad * 4 * kPanel + byte] = static_cast<std::uint8_t>(row[column] + kWeightOffset);
        }
      }
    });
  }
}

}  // namespace repquant::ops
