// Typed errors of repquant. Each kind maps to one exit code, and only main() does that mapping.
#pragma once

#include <stdexcept>
#include <string>

namespace repquant {

/// What went wrong, in the terms a caller can act on. The values are the exit codes of the command
/// line (documented in `repquant --help`).
enum class ErrorKind {
  kGate = 1,           // a gate was missed or a comparison failed
  kUsage = 2,          // usage, recipe or option error
  kDevice = 3,         // device not available
  kUnsupported = 4,    // unsupported model or operator
  kFile = 5,           // input or output file error
  kResource = 6,       // memory or resource limit
  kNumerical = 7,      // numerical failure (NaN, failed self-check, fold not equivalent)
  kInternal = 70,      // a bug in repquant
  kInterrupted = 130,  // SIGINT or SIGTERM
};

/// The parts of an error message. Only `what` is required; empty parts are not printed.
struct ErrorParts {
  std::string what{};      // one sentence: what failed
  std::string where{};     // site path, file name or JSON pointer
  std::string expected{};  // what would have been accepted
  std::string got{};       // what was found instead
  std::string hint{};      // what to try
};

/// The only exception type that leaves repquant's own functions.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, ErrorParts parts);

  ErrorKind kind() const noexcept { return kind_; }
  const ErrorParts& parts() const noexcept { return parts_; }
  int exit_code() const noexcept { return static_cast<int>(kind_); }

 private:
  ErrorKind kind_;
  ErrorParts parts_;
};

}  // namespace repquant
