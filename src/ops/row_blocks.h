// How the rows of a product are shared out.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ops/parallel.h"

namespace repquant::ops {

/// A multiple of every level's rows per tile.
inline constexpr std::int64_t kRowStep = 24;
/// Rows of a block, at least: below, each would read all weights for too little.
inline constexpr std::int64_t kFewestRows = 2 * kRowStep;

/// Blocks of about equal size: each reads (and unpacks) all weights, which a few rows left over
/// would not be worth. They have at most `most` rows, on one thread rounded up to whole tiles;
/// several threads get equally many, of rows that each wrote in the operator before, where there
/// are kFewestRows for every thread.
struct RowBlocks {
  std::int64_t total, rows, count;
  bool by_rows;  // rows are enough to share out; else panels are, too

  RowBlocks(std::int64_t total_rows, std::int64_t most, std::int64_t threads)
      : total(total_rows),
        count((total + most - 1) / most),
        by_rows(threads == 1 || total >= threads * kFewestRows) {
    if (by_rows) count = (count + threads - 1) / threads * threads;
    rows = (total + count - 1) / count;
    if (threads == 1) rows = (rows + kRowStep - 1) / kRowStep * kRowStep;
    count = (total + rows - 1) / rows;
  }

  /// Calls multiply(row_begin, row_end, panel_begin, panel_end) for all parts, side by side if
  /// there are several threads.
  template <class Multiply>
  void each_part(std::int64_t panels, std::int64_t threads, Multiply multiply) const {
    const std::int64_t splits = by_rows ? 1 : std::min(panels, 4 * threads);
    const std::int64_t tasks = count * splits;
    split_work(tasks, threads == 1 ? tasks : 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t task = begin; task < end; ++task) {
        const std::int64_t row = task / splits * rows, split = task % splits;
        multiply(row, std::min(total, row + rows), split * panels / splits,
                 (split + 1) * panels / splits);
      }
    });
  }
};

}  // namespace repquant::ops
