// Working memory of a kernel: one buffer per thread that only grows. Included where
// work is split over threads.
#pragma once

#include <ATen/Config.h>

#include <cstdint>

#if AT_PARALLEL_OPENMP && !defined(_OPENMP)
#error "compile with -fopenmp, or at::parallel_for runs on one thread"
#endif

namespace repquant::ops {

/// At least `bytes` bytes, 64-byte aligned, valid until the thread's next call.
std::uint8_t* thread_scratch(std::int64_t bytes);

}  // namespace repquant::ops
