#include "ops/kernels/pack.h"

#include <cstring>

#include "ops/kernels/kernels.h"

namespace repquant::ops {
namespace {

std::int32_t pack_row(const std::int8_t* codes, std::int64_t columns, std::uint8_t* out) {
  std::int32_t sum = 0;
  for (std::int64_t k = 0; k < columns; ++k) sum += codes[k];
  std::int64_t g = 0;
  for (; 4 * g + 4 <= columns; ++g) std::memcpy(out + g * 4 * kPanel, codes + 4 * g, 4);
  for (std::int64_t k = 4 * g; k < columns; ++k) {
    out[g * 4 * kPanel + k % 4] = static_cast<std::uint8_t>(codes[k]);
  }
  return sum;
}

/// Nibbles of one row; `bytes` is ceil(columns / 2).
std::int32_t pack_nibble_row(const std::uint8_t* codes, std::int64_t columns, std::int64_t bytes,
                             const std::int8_t* levels, std::uint8_t* out) {
  std::int32_t sum = 0;
  for (std::int64_t k = 0; k < columns; ++k) sum += levels[codes[k / 2] >> (k % 2 * 4) & 15];
  for (std::int64_t j = 0; j < bytes; j += 4) {
    std::uint8_t four[4] = {};  // inputs of the padding are zeros
    std::memcpy(four, codes + j, static_cast<std::size_t>(bytes - j < 4 ? bytes - j : 4));
    const std::uint8_t split[4] = {static_cast<std::uint8_t>((four[0] & 15) | (four[2] << 4)),
                                   static_cast<std::uint8_t>((four[0] >> 4) | (four[2] & 0xF0)),
                                   static_cast<std::uint8_t>((four[1] & 15) | (four[3] << 4)),
                                   static_cast<std::uint8_t>((four[1] >> 4) | (four[3] & 0xF0))};
    std::memcpy(out + j / 4 * 4 * kPanel, split, 4);
  }
  return sum;
}

}  // namespace

void pack_weight(const std::uint8_t* codes, std::int64_t rows, std::int64_t columns,
                 const std::int8_t* levels, std::uint8_t* packed, std::int32_t* sums) {
  const bool nibbles = levels != nullptr;
  const std::int64_t groups = packed_groups(columns, nibbles);
  const std::int64_t step = panel_bytes(groups, nibbles);
  const std::int64_t stored = nibbles ? (columns + 1) / 2 : columns;
  for (std::int64_t n = 0; n < rows; ++n) {
    std::uint8_t* out = packed + n / kPanel * step + n % kPanel * 4;
    const std::uint8_t* row = codes + n * stored;
    sums[n] = nibbles ? pack_nibble_row(row, columns, stored, levels, out)
                      : pack_row(reinterpret_cast<const std::int8_t*>(row), columns, out);
  }
}

}  // namespace repquant::ops
