// SIGINT and SIGTERM as a flag that long work asks for, so that destructors run and no half-written
// file stays behind.
#pragma once

#include <csignal>

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
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  InterruptToken token() const { return InterruptToken(true); }

 private:
  struct sigaction previous_int_ {};
  struct sigaction previous_term_ {};
};

}  // namespace repquant
