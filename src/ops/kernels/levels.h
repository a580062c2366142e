// The tables of kernels that are compiled in; x86 levels only where the compiler targets x86-64.
#pragma once

#include "ops/kernels/kernels.h"

namespace repquant::ops {

extern const Kernels kGenericKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kOneDnnKernels;
#endif

}  // namespace repquant::ops
