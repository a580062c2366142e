// Weights of weight-only products in the order in which they are read, and their inputs beside.
#pragma once

#include <cstdint>

#include "ops/kernels/kernels.h"

namespace repquant::ops {

/// Columns that one word of nibbles holds, for each of a panel's channels.
inline constexpr std::int64_t kStep = 8;

/// Bytes of a step of a packed panel.
inline std::int64_t step_bytes(bool nibbles) { return kStep * kPanel / (nibbles ? 2 : 1); }

/// Neighbouring columns that share a scale and are summed before they are scaled.
struct Chunk {
  std::int64_t index = 0, group = 0;
  std::int64_t column = 0, width = 0;
  std::int64_t first_step = 0, steps = 0;  // its place in weight and input, padded to whole steps
};

/// How the columns of a row are divided: groups of `group_size` (0: the row), chunks of at most
/// kChunk.
class ColumnLayout {
 public:
  /// 2^8 products of 16-bit inputs and 8-bit codes stay below 2^31.
  static constexpr std::int64_t kChunk = 256;

  ColumnLayout(std::int64_t columns, std::int64_t group_size)
      : columns_(columns),
        width_(group_size > 0 && group_size < columns ? group_size : columns),
        groups_((columns + width_ - 1) / width_) {}

  std::int64_t groups() const { return groups_; }
  std::int64_t chunks() const { return in_groups(kChunk); }
  std::int64_t steps() const { return in_groups(kStep); }

  /// Calls visit(chunk) for one after the other.
  template <class Visit>
  void each_chunk(Visit visit) const {
    Chunk chunk;
    for (; chunk.group < groups_; ++chunk.group) {
      const std::int64_t begin = chunk.group * width_;
      const std::int64_t end = begin + width_ < columns_ ? begin + width_ : columns_;
      for (chunk.column = begin; chunk.column < end; chunk.column += kChunk) {
        chunk.width = end - chunk.column < kChunk ? end - chunk.column : kChunk;
        chunk.steps = (chunk.width + kStep - 1) / kStep;
        visit(static_cast<const Chunk&>(chunk));
        ++chunk.index;
        chunk.first_step += chunk.steps;
      }
    }
  }

 private:
  /// Pieces of `size` columns, counted group by group.
  std::int64_t in_groups(std::int64_t size) const {
    const std::int64_t last = columns_ - (groups_ - 1) * width_;
    return (groups_ - 1) * ((width_ + size - 1) / size) + (last + size - 1) / size;
  }

  std::int64_t columns_, width_, groups_;
};

/// Packs weight codes as the artifact stores them, int8 [channels, columns] or nibbles (numbers of
/// levels, low first) uint8 [channels, ceil(columns / 2)], into panels of [step][quad][64
/// channels][4 columns] bytes, code + kWeightOffset, or [step][64 channels][4 columns] nibbles,
/// those of the first quad low. The columns of a quad are in the order 0, 2, 1, 3, so that every
/// other byte is of neighbours. Scales [channels, groups] become [panel][group][64 channels]. Both
/// are zeros before: padding has scale 0.
void pack_weight_only(const std::uint8_t* codes, const float* scale, std::int64_t channels,
                      std::int64_t columns, const ColumnLayout& layout, bool nibbles,
                      std::uint8_t* packed, float* packed_scale);

}  // namespace repquant::ops
