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
  std::int64_t group = 0, column = 0, width = 0;
  std::int64_t first_step = 0, steps = 0;  // its place in weight and input, padded to whole steps
};

/// How the columns of a row are divided: groups of `group_size` (0: the row), chunks of at most 64.
class ColumnLayout {
 public:
  static constexpr std::int64_t kChunk = 64;

  ColumnLayout(std::int64_t columns, std::int64_t group_size)
      : columns_(columns),
        width_(group_size > 0 && group_size < columns ? group_size : columns),
        group_steps_((width_ + kStep - 1) / kStep),
        group_chunks_((width_ + kChunk - 1) / kChunk) {}

  std::int64_t groups() const { return (columns_ + width_ - 1) / width_; }
  std::int64_t chunks() const {
    return (groups() - 1) * group_chunks_ + (last_width() + kChunk - 1) / kChunk;
  }
  std::int64_t steps() const {
    return (groups() - 1) * group_steps_ + (last_width() + kStep - 1) / kStep;
  }
  Chunk chunk(std::int64_t i) const {
    const std::int64_t group = i / group_chunks_, place = i % group_chunks_;
    const std::int64_t begin = place * kChunk;
    const std::int64_t rest = (group + 1 == groups() ? last_width() : width_) - begin;
    const std::int64_t width = rest < kChunk ? rest : kChunk;
    return {group, group * width_ + begin, width, group * group_steps_ + begin / kStep,
            (width + kStep - 1) / kStep};
  }

 private:
  std::int64_t last_width() const { return columns_ - (groups() - 1) * width_; }

  std::int64_t columns_, width_;
  std::int64_t group_steps_, group_chunks_;
};

/// Packs weight codes as the artifact stores them, int8 [channels, columns] or nibbles (code + 8,
/// low first) uint8 [channels, ceil(columns / 2)], into panels: [panel][step][8 columns][64
/// channels] int8; nibbles: [panel][step][64 channels], words of 8 columns, the first one lowest.
/// Scales [channels, groups] become [panel][group][64 channels]. Padding has scale 0.
void pack_weight_only(const std::uint8_t* codes, const float* scale, std::int64_t channels,
                      std::int64_t columns, const ColumnLayout& layout, bool nibbles,
                      std::uint8_t* packed, float* packed_scale);

/// Brings a row of inputs into the order of the packed weight, 8 steps() floats. For nibbles each
/// is divided by its nibble's place in the word, and `offsets` [chunks] are -8 times the sums of
/// the chunks' inputs: the codes are stored + 8.
void arrange_row(const float* x, const ColumnLayout& layout, bool nibbles, float* arranged,
                 float* offsets);

}  // namespace repquant::ops
