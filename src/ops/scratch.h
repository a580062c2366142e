// Working memory of a kernel: one buffer per thread that only grows.
#pragma once

#include <cstdint>

namespace repquant::ops {

/// At least `bytes` bytes, 64-byte aligned, valid until the thread's next call.
std::uint8_t* thread_scratch(std::int64_t bytes);

}  // namespace repquant::ops
