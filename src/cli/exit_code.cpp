#include "cli/exit_code.h"

namespace repquant::cli {

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kGate:
      return 1;
    case ErrorKind::kUsage:
      return 2;
    case ErrorKind::kUnsupported:
      return 4;
    case ErrorKind::kFile:
      return 5;
    case ErrorKind::kResource:
      return 6;
    case ErrorKind::kNumerical:
      return 7;
    case ErrorKind::kInterrupted:
      return 130;
    case ErrorKind::kInternal:
      break;
  }
  return 70;
}

}  // namespace repquant::cli
