// Keys and values kept as codes, each row with its grid behind it: back to floating point, or to
// operand codes of an attention.
#pragma once

#include "ops/kernels/kernels.h"
#include "ops/kernels/norm.h"

namespace repquant::ops {
namespace {

/// Places `from` to `to` of a row: low + step code, in two roundings.
inline void dequantize_part(const std::uint8_t* row, std::int64_t width, std::int64_t from,
                            std::int64_t to, float* out) {
  float grid[2];
  __builtin_memcpy(grid, row + width, sizeof(grid));
  for (std::int64_t i = from; i < to; ++i) {
    out[i - from] = static_cast<float>(row[i]) * grid[1] + grid[0];
  }
}

template <class V>
void read_cache(const CacheArgs& args, std::int64_t row_begin, std::int64_t row_end) {
  const std::int64_t width = args.width, stride = width + kGridBytes;
  constexpr std::int64_t kPart = 256;
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const std::uint8_t* codes = args.codes + row * stride;
    if (args.operands == nullptr) {
      dequantize_part(codes, width, 0, width, args.values + row * width);
      continue;
    }
    const std::int64_t head = row / args.tokens % args.heads;
    for (std::int64_t from = 0; from < width; from += kPart) {
      alignas(64) float values[kPart];
      const std::int64_t to = from + kPart < width ? from + kPart : width;
      dequantize_part(codes, width, from, to, values);
      const std::int64_t grid = head * args.grid_head + (args.per_channel ? from : 0);
      quantize<V>({.x = values,
                   .codes = args.operands + row * width + from,
                   .width = to - from,
                   .multiplier = args.multiplier + grid,
                   .offset = args.offset + grid,
                   .per_channel = args.per_channel,
                   .max_code = args.max_code,
                   .shift = args.shift},
                  0, 1);
    }
  }
}

}  // namespace
}  // namespace repquant::ops
