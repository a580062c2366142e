// What libFuzzer calls. REPQUANT_FUZZ_TARGET is the function of fuzz/targets.h.
#include "fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  repquant::fuzz::REPQUANT_FUZZ_TARGET({data, size});
  return 0;
}
