// Linears whose products come from LibTorch's library, the rest as in linear.h: the same bits.
#pragma once

#include "ops/kernels/library_product.h"
#include "ops/kernels/linear.h"

namespace repquant::ops {
namespace {

/// Rows of a product, at most, and what they are multiples of: tiles of AMX have 16 rows, and each
/// other number of rows would be code of its own.
inline constexpr std::int64_t kLibraryRows = 64, kLibraryStep = 16;

/// Rows of the next product where `left` of `count` rows are left.
inline std::int64_t library_rows(std::int64_t left, std::int64_t count) {
  const std::int64_t whole = (left + kLibraryStep - 1) / kLibraryStep * kLibraryStep;
  const std::int64_t rows = whole < kLibraryRows ? whole : kLibraryRows;
  return rows <= count ? rows : count / kLibraryStep * kLibraryStep;
}

template <class V, Activation kActivation, Output kOutput>
void library_linear_as(const LinearArgs& args, std::int64_t row_begin, std::int64_t row_end,
                       std::int64_t panel_begin, std::int64_t panel_end, std::uint8_t* scratch) {
  const std::int64_t count = row_end - row_begin;
  if (count < kLibraryStep) {
    return linear_as<V, kActivation, kOutput>(args, row_begin, row_end, panel_begin, panel_end,
                                              scratch);
  }
  alignas(64) std::int32_t sums[kLibraryRows * kPanel];
  const LibraryScope scope;
  const Limits limits(args);
  const std::int64_t stride = 4 * args.groups;
  const std::int64_t bytes_per_panel = panel_bytes(args.groups, args.levels != nullptr);
  for (std::int64_t p = panel_begin; p < panel_end; ++p) {
    const std::uint8_t* packed = args.weight + p * bytes_per_panel;
    const auto* bytes = reinterpret_cast<const std::int8_t*>(packed);
    if (args.levels != nullptr) {
      auto* unpacked = reinterpret_cast<std::int8_t*>(scratch);
      unpack_panel<V>(packed, args.levels, args.groups, unpacked);
      bytes = unpacked;
    }
    const std::int64_t column = p * kPanel;
    const std::int64_t live = args.channels - column < kPanel ? args.channels - column : kPanel;
    std::int64_t rows = 0;
    for (std::int64_t begin = row_begin; begin < row_end; begin += rows) {
      // The last rows are moved up to be a whole tile: some are done twice.
      rows = library_rows(row_end - begin, count);
      const std::int64_t row = begin < row_end - rows ? begin : row_end - rows;
      library_product(rows, args.groups, args.x + row * stride, bytes, sums);
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < live; c += 16) {
          finish_vector<V, kActivation, kOutput>(args, limits, sums + r * kPanel + c, row + r,
                                                 column + c, live - c < 16 ? live - c : 16);
        }
      }
    }
  }
}

/// See TiledLinear.
template <class V>
struct LibraryLinear {
  template <Activation kActivation, Output kOutput>
  static constexpr LinearKernel kernel = &library_linear_as<V, kActivation, kOutput>;
};

}  // namespace
}  // namespace repquant::ops
