// What long work tells while it runs, and how it is stopped. No LibTorch types here.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

namespace repquant {

/// Functions that a call of the library runs on the caller's thread. Whatever is not replaced does
/// nothing; none may be null.
struct Observer {
  /// A phase of the work begins, of so many items; 0: it is short, or of unknown length.
  std::function<void(const std::string& phase, std::size_t items)> on_phase = [](const std::string&,
                                                                                 std::size_t) {};
  /// So many items of the phase are done, and this one is being worked on; empty: it has no name.
  std::function<void(const std::string& item, std::size_t done)> on_item = [](const std::string&,
                                                                              std::size_t) {};
  std::function<void(const std::string& text)> info = [](const std::string&) {};
  std::function<void(const std::string& text)> warn = [](const std::string&) {};
  /// Called often; throws Error kInterrupted to stop.
  std::function<void()> check_interrupt = [] {};
};

}  // namespace repquant
