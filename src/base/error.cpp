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

Error::Error(ErrorKind kind, ErrorParts parts)
    : std::runtime_error(format(parts)), kind_(kind), parts_(std::move(parts)) {}

}  // namespace repquant
