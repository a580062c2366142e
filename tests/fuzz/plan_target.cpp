#include "fuzz/input.h"
#include "nightly/plan.h"

namespace repquant::fuzz {

void fuzz_plan(Input input) {
  const InputFile file(input);
  survive([&] { read_plan(file.path(), "out", 1); });
}

}  // namespace repquant::fuzz
