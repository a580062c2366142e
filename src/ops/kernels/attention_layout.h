// Where the attention kernel keeps what, in its scratch memory.
#pragma once

#include <cstdint>

#include "ops/kernels/kernels.h"

namespace repquant::ops {

inline constexpr std::int64_t kGroupBytes = kPanel * 4;  // of one group of four inputs in a panel

/// Bytes of the parts of the scratch memory; each part starts at a multiple of 64.
struct AttentionLayout {
  std::int64_t groups, panels;              // of a key: groups of four channels, panels of keys
  std::int64_t value_groups, value_panels;  // of the values: groups of four keys
  std::int64_t width;                       // padded number of keys
  std::int64_t keys, shifts, values, query, scores, planes, total;

  explicit AttentionLayout(const AttentionArgs& args) {
    groups = (args.depth + 3) / 4;
    panels = (args.columns + kPanel - 1) / kPanel;
    value_groups = (args.columns + 3) / 4;
    value_panels = (args.value_depth + kPanel - 1) / kPanel;
    width = panels * kPanel;
    keys = 0;
    shifts = keys + panels * groups * kGroupBytes;
    values = shifts + width * 4;
    query = values + value_panels * value_groups * kGroupBytes;
    scores = query + (args.rows * groups * 4 + 63) / 64 * 64;
    planes = scores + kMaxRows * width * 4;
    total = planes + 2 * kMaxRows * width;
  }

  static constexpr std::int64_t kMaxRows = 8;  // at least V::kRows
};

}  // namespace repquant::ops
