// Progress of long work: phase, item, count and the time it will still take.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/log.h"

namespace repquant {

/// What a progress line says.
struct ProgressState {
  std::string phase{};    // "quantize"
  std::string item{};     // "blocks.3.mlp.fc1"; may be empty
  std::size_t done = 0;   // finished items
  std::size_t total = 0;  // 0: not known
  double seconds = 0;     // since the phase began
};

/// "quantize 3/49 (6 %), 1 min 20 s left: blocks.3.mlp.fc1". The time left is estimated from the
/// finished items; it is missing before the first one and when the total is not known.
std::string progress_text(const ProgressState& state);

/// Reports progress through a log: on a terminal as one rewritten line, elsewhere as a plain line
/// at the start, the end and at most every ten seconds. Cheap to copy, safe to use from several
/// threads; a default-constructed one does nothing.
class Progress {
 public:
  using Clock = std::function<double()>;  // seconds since any moment

  Progress() = default;
  explicit Progress(Log log);
  Progress(Log log, Clock clock);

  /// Starts a phase of `total` items (0: not known). An unfinished phase before it is finished.
  void begin(std::string_view phase, std::size_t total) const;

  /// Names the item being worked on.
  void item(std::string_view name) const;

  /// `count` more items are finished.
  void advance(std::size_t count = 1) const;

  /// Ends the phase with a line that says how long it took.
  void finish() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace repquant
