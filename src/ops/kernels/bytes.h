// Bytes looked up, and rows of them in the order in which a product reads its right operand; plain
// C++, for the levels that have nothing of their own for it.
#pragma once

#include <cstdint>
#include <cstring>

namespace repquant::ops {
namespace {

/// 16 rows of `bytes` bytes, at most 64, of which rows from `live` on are 0.
struct Rows {
  const std::int8_t* first;
  std::int64_t stride;
  int live;
  std::int64_t bytes;

  const std::int8_t* operator[](int r) const { return first + r * stride; }
};

struct PlainBytes {
  /// True where a lookup is quicker than comparisons with a few levels.
  static constexpr bool kMapsBytes = false;
  /// bytes[i] = table[bytes[i]] for a table of 256.
  static void map_bytes(const std::uint8_t* table, std::uint8_t* bytes, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) bytes[i] = table[bytes[i]];
  }

  /// Word i (four bytes) of each of 16 rows to to[i step], for ceil(bytes / 4) words.
  static void transpose(const Rows& rows, std::uint8_t* to, std::int64_t step) {
    for (std::int64_t word = 0; 4 * word < rows.bytes; ++word, to += step) {
      const std::int64_t left = rows.bytes - 4 * word;
      std::memset(to, 0, 64);
      for (int r = 0; r < rows.live; ++r) {
        std::memcpy(to + 4 * r, rows[r] + 4 * word, static_cast<std::size_t>(left < 4 ? left : 4));
      }
    }
  }

  /// The bytes of up to four rows side by side: 64 times four bytes, 0 where there is none.
  static void interleave(const Rows& rows, std::uint8_t* to) {
    std::int8_t four[4][64] = {};
    for (int r = 0; r < 4 && r < rows.live; ++r) {
      std::memcpy(four[r], rows[r], static_cast<std::size_t>(rows.bytes));
    }
    for (int c = 0; c < 64; ++c) {
      for (int r = 0; r < 4; ++r) to[4 * c + r] = static_cast<std::uint8_t>(four[r][c]);
    }
  }
};

}  // namespace
}  // namespace repquant::ops
