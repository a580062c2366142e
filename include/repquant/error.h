// Typed errors of repquant.
#pragma once

#include <stdexcept>
#include <string>

namespace repquant {

/// What went wrong, in the terms a caller can act on.
enum class ErrorKind {
  kGate,         // a gate was missed or a comparison failed
  kUsage,        // usage, recipe or option error
  kUnsupported,  // unsupported model or operator
  kFile,         // input or output file error
  kResource,     // memory or resource limit
  kNumerical,    // numerical failure (NaN, failed self-check, fold not equivalent)
  kInternal,     // a bug in repquant
  kInterrupted,  // the caller stopped the work
};

/// "gate", "usage", "unsupported", "file", "resource", "numerical", "internal" or "interrupted".
const char* name_of(ErrorKind kind);

/// The parts of an error message. Only `what` is required; empty parts are not printed. Settings
/// stand in backticks: `calib`, `threads`, `norm.granularity=per_tensor`.
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

 private:
  ErrorKind kind_;
  ErrorParts parts_;
};

}  // namespace repquant
