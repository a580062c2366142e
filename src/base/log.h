// The log: lines for people, on stderr and in a file. spdlog stays inside log.cpp, because its fmt
// does not get along with LibTorch's.
#pragma once

#include <filesystem>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace repquant {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

struct LogOptions {
  LogLevel level = LogLevel::kInfo;             // of the console; --quiet: kError, -v: kDebug
  std::optional<std::filesystem::path> file{};  // gets everything from kDebug on, with times
  std::ostream* stream = nullptr;               // the console; null: stderr
  std::optional<bool> terminal{};               // whether it is one; none: ask the system
  std::optional<bool> color{};                  // none: on a terminal, unless NO_COLOR is set
};

/// A handle to one log, cheap to copy. A default-constructed one drops everything. Safe to use from
/// several threads.
class Log {
 public:
  Log() = default;

  /// Throws Error kFile if the log file cannot be opened.
  explicit Log(const LogOptions& options);

  void debug(std::string_view text) const { write(LogLevel::kDebug, text); }
  void info(std::string_view text) const { write(LogLevel::kInfo, text); }
  void warning(std::string_view text) const { write(LogLevel::kWarning, text); }
  void error(std::string_view text) const { write(LogLevel::kError, text); }
  void write(LogLevel level, std::string_view text) const;

  /// True if the console would show lines of that level.
  bool shows(LogLevel level) const;

  /// True if status() rewrites one line instead of doing nothing.
  bool on_terminal() const;

  /// On a terminal: shows `text` as the last line until the next call; log lines appear above it.
  /// Empty text removes it. Elsewhere, and when info lines are not shown, it does nothing.
  void status(std::string_view text) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace repquant
