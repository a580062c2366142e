// Helpers for hand-written loops: plain C++ that compilers vectorise without -ffast-math.
#pragma once

#include <cstdint>

// One source, compiled for several instruction sets and chosen at load. The sums below are written
// in a fixed number of lanes, and the build does not contract a * b + c, so every version gives the
// same bits. Off under sanitizers, whose start-up code the resolvers would run ahead of.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define REPQUANT_SIMD __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define REPQUANT_SIMD
#endif

namespace repquant {

/// Lanes of a sum; wide enough for two AVX-512 registers.
inline constexpr std::int64_t kLanes = 32;

/// Round half to even for |x| < 2^22, as std::nearbyint does, in two additions: adding 1.5 * 2^23
/// leaves no fraction bits, and the addition itself rounds half to even.
inline float round_even(float x) {
  constexpr float kMagic = 12582912.0F;
  return (x + kMagic) - kMagic;
}

inline float clamp_to(float x, float low, float high) {
  const float floor = x < low ? low : x;
  return floor > high ? high : floor;
}

/// Sum of the lanes in double, in a fixed order.
inline double sum_lanes(const float* lanes) {
  double sum = 0;
  for (std::int64_t lane = 0; lane < kLanes; ++lane) sum += static_cast<double>(lanes[lane]);
  return sum;
}

}  // namespace repquant
