// What the processor can do at most: the yardsticks of the kernels' benchmarks.
#pragma once

#include <cstdint>

namespace repquant::bench {

/// Runs `rounds` rounds of 24 independent vpdpbusd on 512-bit registers and returns their
/// multiply-accumulates, or 0 where the processor lacks AVX-512 VNNI.
std::int64_t run_byte_products(std::int64_t rounds);

/// Reads `bytes` bytes once and returns something that depends on all of them.
std::uint64_t read_memory(const std::uint8_t* data, std::int64_t bytes);

}  // namespace repquant::bench
