// Weights in the order in which the matrix product reads them.
#pragma once

#include <cstdint>

namespace repquant::ops {

/// Groups of four inputs of a packed weight with `columns` inputs; even for nibbles.
inline std::int64_t packed_groups(std::int64_t columns, bool nibbles) {
  const std::int64_t groups = (columns + 3) / 4;
  return nibbles ? (groups + 1) / 2 * 2 : groups;
}

/// Two codes of 0.
inline constexpr std::int64_t kZeroNibbles = 0x88;

/// Packs weight codes as the artifact stores them, int8 [rows, columns] or nibbles (code + 8, low
/// first) uint8 [rows, ceil(columns / 2)], into panels: [panel][group][64 rows][4 inputs]; nibbles:
/// [panel][pair of groups][64 rows][4 inputs], the first group in the low halves.
/// `packed`: panel_bytes() per panel of 64 rows, zeros or kZeroNibbles. `sums` [padded rows],
/// zeros: gets the sum of each row's codes.
void pack_weight(const std::uint8_t* codes, std::int64_t rows, std::int64_t columns, bool nibbles,
                 std::uint8_t* packed, std::int32_t* sums);

}  // namespace repquant::ops
