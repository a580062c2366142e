#include "peaks.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace repquant::bench {

#if defined(__x86_64__)

namespace {

__attribute__((target("avx512f,avx512vnni"))) std::int64_t byte_products(std::int64_t rounds) {
  for (std::int64_t i = 0; i < rounds; ++i) {
    // Registers are not initialised: the products' values do not matter, nor does their order.
    __asm__ volatile(
        ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm\\r\n"
        ".endr\n" ::
            : "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9",
              "zmm10", "zmm11", "zmm12", "zmm13", "zmm14", "zmm15", "zmm16", "zmm17", "zmm18",
              "zmm19", "zmm20", "zmm21", "zmm22", "zmm23");
  }
  return rounds * 24 * 64;
}

__attribute__((target("avx512f"))) std::uint64_t read_wide(const std::uint8_t* data,
                                                           std::int64_t bytes) {
  __m512i sum[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                    _mm512_setzero_si512()};
  for (std::int64_t i = 0; i + 256 <= bytes; i += 256) {
    _mm_prefetch(reinterpret_cast<const char*>(data + i + 8192), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(data + i + 8256), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(data + i + 8320), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(data + i + 8384), _MM_HINT_T0);
    for (int k = 0; k < 4; ++k) {
      sum[k] = _mm512_xor_si512(sum[k], _mm512_loadu_si512(data + i + 64 * k));
    }
  }
  alignas(64) std::uint64_t words[8];
  _mm512_store_si512(
      words, _mm512_xor_si512(_mm512_xor_si512(sum[0], sum[1]), _mm512_xor_si512(sum[2], sum[3])));
  std::uint64_t result = 0;
  for (const auto word : words) result ^= word;
  return result;
}

}  // namespace

std::int64_t run_byte_products(std::int64_t rounds) {
  if (!__builtin_cpu_supports("avx512vnni")) return 0;
  return byte_products(rounds);
}

std::uint64_t read_memory(const std::uint8_t* data, std::int64_t bytes) {
  if (__builtin_cpu_supports("avx512f")) return read_wide(data, bytes);
  std::uint64_t sum = 0;
  for (std::int64_t i = 0; i + 8 <= bytes; i += 8) {
    std::uint64_t word;
    __builtin_memcpy(&word, data + i, 8);
    sum ^= word;
  }
  return sum;
}

#else

std::int64_t run_byte_products(std::int64_t) { return 0; }

std::uint64_t read_memory(const std::uint8_t* data, std::int64_t bytes) {
  std::uint64_t sum = 0;
  for (std::int64_t i = 0; i + 8 <= bytes; i += 8) {
    std::uint64_t word;
    __builtin_memcpy(&word, data + i, 8);
    sum ^= word;
  }
  return sum;
}

#endif

}  // namespace repquant::bench
