#include "verify/subject.h"

#include "repquant/error.h"

namespace repquant {

void refute(const std::string& sentence) { throw Error(ErrorKind::kGate, {.what = sentence}); }

}  // namespace repquant
