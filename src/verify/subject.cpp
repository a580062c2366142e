#include "verify/subject.h"

#include "repquant/error.h"

namespace repquant {

void refute(const std::string& sentence) { throw Error(ErrorKind::kGate, {.what = sentence}); }

std::string counted(std::size_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

}  // namespace repquant
