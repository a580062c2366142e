// SIGINT and SIGTERM as a flag that long work asks for, so that destructors run and no half-written
// file stays behind.
#pragma once

#include <chrono>
#include <csignal>
#include <functional>
#include <memory>

#include "repquant/error.h"

namespace repquant {

/// Handed to long-running functions. A default-constructed token is never interrupted.
class InterruptToken {
 public:
  InterruptToken() = default;

  /// True once SIGINT or SIGTERM has arrived in the scope that made this token.
  bool requested() const noexcept;

  /// Throws Error kInterrupted if requested().
  void throw_if_interrupted() const;

 private:
  friend class InterruptScope;
  explicit InterruptToken(bool armed) : armed_(armed) {}
  bool armed_ = false;
};

/// While it lives, SIGINT and SIGTERM set the flag instead of ending the process; the third signal
/// ends it at once. One scope at a time, made by main().
class InterruptScope {
 public:
  InterruptScope();

  /// As well calls `overdue` with Error kInterrupted, on a thread of its own, if the scope still
  /// lives so long after the first signal: nobody has asked for the flag, as in a model's loop
  /// without end.
  InterruptScope(std::chrono::milliseconds grace, std::function<void(const Error&)> overdue);

  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  InterruptToken token() const { return InterruptToken(true); }

 private:
  class Watch;

  void install();

  std::unique_ptr<Watch> watch_;
  struct sigaction previous_int_ {};
  struct sigaction previous_term_ {};
};

}  // namespace repquant
