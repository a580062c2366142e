// Weights in the order in which the matrix product reads them.
#pragma once

#include <cstdint>

namespace repquant::ops {

/// Groups of four inputs of a packed weight with `columns` inputs; even for nibbles.
inline std::int64_t packed_groups(std::int64_t columns, bool nibbles) {
  const std::int64_t groups = (columns + 3) / 4;
  return nibbles ? (groups + 1) / 2 * 2 : groups;
}

/// Bytes in front of a packed weight of nibbles: what each of the 16 stands for, int8, and padding
/// to a line of the cache.
inline constexpr std::int64_t kLevelBytes = 64;

/// Packs weight codes as the artifact stores them into panels of 64 rows: int8 [rows, columns] as
/// [panel][group][64 rows][4 inputs], or nibbles (low first) uint8 [rows, ceil(columns / 2)] as
/// [panel][pair of groups][64 rows][4 inputs], the first group in the low halves.
/// `levels` [16]: what nibbles stand for; null for int8. `packed`: panel_bytes() per panel, zeros.
/// `sums` [padded rows], zeros: gets the sum of each row's weights.
void pack_weight(const std::uint8_t* codes, std::int64_t rows, std::int64_t columns,
                 const std::int8_t* levels, std::uint8_t* packed, std::int32_t* sums);

}  // namespace repquant::ops
