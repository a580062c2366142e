#include "repquant/error.h"

#include <utility>

namespace repquant {
namespace {

std::string format(const ErrorParts& parts) {
  std::string text = parts.what;
  const auto add = [&text](const char* label, const std::string& value) {
    if (!value.empty()) text += std::string("\n  ") + label + ": " + value;
  };
  add("where", parts.where);
  add("expected", parts.expected);
  add("got", parts.got);
  add("try", parts.hint);
  return text;
}

}  // namespace

const char* name_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kGate:
      return "gate";
    case ErrorKind::kUsage:
      return "usage";
    case ErrorKind::kUnsupported:
      return "unsupported";
    case ErrorKind::kFile:
      return "file";
    case ErrorKind::kResource:
      return "resource";
    case ErrorKind::kNumerical:
      return "numerical";
    case ErrorKind::kInterrupted:
      return "interrupted";
    case ErrorKind::kInternal:
      break;
  }
  return "internal";
}

Error::Error(ErrorKind kind, ErrorParts parts)
    : std::runtime_error(format(parts)), kind_(kind), parts_(std::move(parts)) {}

}  // namespace repquant
