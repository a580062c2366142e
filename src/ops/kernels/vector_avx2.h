// 16 lanes in two AVX2 registers. vpmaddubsw saturates at 16 bits, so bytes are widened to 16 bits
// and multiplied with vpmaddwd, which is exact.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "ops/kernels/bytes.h"

namespace repquant::ops {
namespace {

struct Avx2 : PlainBytes {
  static constexpr bool kOverlaps = false;
  static constexpr int kRows = 4;
  static constexpr int kVectors = 1;
  static constexpr int kPairRows = 6;
  static constexpr int kPairVectors = 1;
  static constexpr int kGroupRows = 4;
  static constexpr int kGroupSums = 2;
  static constexpr int kGroupFewRows = 4;

  struct F {
    __m256 a, b;
  };
  struct I {
    __m256i a, b;
  };
  struct Inputs {
    __m256i even, odd;  // 16-bit
  };
  struct Weights {
    __m256i a, b;  // bytes
  };

  static F set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static F load_n(const float* p, std::int64_t n, float other = 0.0F) {
    float buffer[16];
    for (int i = 0; i < 16; ++i) buffer[i] = i < n ? p[i] : other;
    return load(buffer);
  }
  static void store(float* p, F x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
  }
  static void store_n(float* p, F x, std::int64_t n) {
    float buffer[16];
    store(buffer, x);
    for (int i = 0; i < 16 && i < n; ++i) p[i] = buffer[i];
  }
  static F add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
  static F sub(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
  static F mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
  static F div(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
  static F fma(F x, F y, F z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
  }
  /// x - y z
  static F sub_product(F x, F y, F z) {
    return {_mm256_fnmadd_ps(y.a, z.a, x.a), _mm256_fnmadd_ps(y.b, z.b, x.b)};
  }
  static F min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
  static F max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
  static F abs(F x) {
    const __m256 sign = _mm256_set1_ps(-0.0F);
    return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
  }
  static I bits(F x) { return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
  /// table[the lowest four bits of an index]
  static F lookup(const float* table, F index) {
    const __m256 low = _mm256_load_ps(table), high = _mm256_load_ps(table + 8);
    const auto half = [&](__m256 i) {
      const __m256i bits = _mm256_castps_si256(i);
      const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(bits, 28));  // sign: bit 3
      return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, bits),
                              _mm256_permutevar8x32_ps(high, bits), upper);
    };
    return {half(index.a), half(index.b)};
  }
  static F code_root(F x) { return sqrt(x); }
  static F sqrt(F x) { return {_mm256_sqrt_ps(x.a), _mm256_sqrt_ps(x.b)}; }
  static F round(F x) {
    constexpr int kMode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(x.a, kMode), _mm256_round_ps(x.b, kMode)};
  }
  static I to_int(F x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
  static I truncate(F x) { return {_mm256_cvttps_epi32(x.a), _mm256_cvttps_epi32(x.b)}; }
  static F to_float(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
  static F scale_exponent(F x, F n) {
    const auto scale = [](__m256 v, __m256 m) {
      const __m256i power = _mm256_slli_epi32(_mm256_cvtps_epi32(m), 23);
      return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), power));
    };
    return {scale(x.a, n.a), scale(x.b, n.b)};
  }
  static float sum(F x) {
    const __m256 s = _mm256_add_ps(x.a, x.b);
    const __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    const __m128 u = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_add_ss(u, _mm_shuffle_ps(u, u, 1)));
  }
  static float largest(F x) {
    const __m256 s = _mm256_max_ps(x.a, x.b);
    const __m128 t = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    const __m128 u = _mm_max_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_max_ss(u, _mm_shuffle_ps(u, u, 1)));
  }

  /// Of eight vectors, a lane for each.
  static __m256 largest_of_eight(const F* vectors) {
    const auto halves = [&](int i) { return _mm256_max_ps(vectors[i].a, vectors[i].b); };
    __m256 pairs[4];  // lanes of 128 bits: of vectors i and i + 4
    for (int i = 0; i < 4; ++i) {
      const __m256 x = halves(i), y = halves(i + 4);
      pairs[i] =
          _mm256_max_ps(_mm256_permute2f128_ps(x, y, 0x20), _mm256_permute2f128_ps(x, y, 0x31));
    }
    const auto step = [](__m256 x, __m256 y) {
      return _mm256_max_ps(_mm256_unpacklo_ps(x, y), _mm256_unpackhi_ps(x, y));
    };
    return step(step(pairs[0], pairs[2]), step(pairs[1], pairs[3]));
  }
  static F largest_of_each(const F* vectors) {
    return {largest_of_eight(vectors), largest_of_eight(vectors + 8)};
  }

  static I set_int(std::int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
  static I load_int(const std::int32_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
  }
  static void store_int(std::int32_t* p, I x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.a);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), x.b);
  }
  static I load_bytes(const std::int8_t* p) {
    const auto half = [](const std::int8_t* q) {
      return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(q)));
    };
    return {half(p), half(p + 8)};
  }
  static I load_bytes_n(const std::int8_t* p, std::int64_t n) {
    std::int8_t buffer[16] = {};
    for (int i = 0; i < 16 && i < n; ++i) buffer[i] = p[i];
    return load_bytes(buffer);
  }
  static I add(I x, I y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
  static I sub(I x, I y) { return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
  static I mul(I x, I y) { return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)}; }
  static I min(I x, I y) { return {_mm256_min_epi32(x.a, y.a), _mm256_min_epi32(x.b, y.b)}; }
  static I max(I x, I y) { return {_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)}; }
  static I bit_and(I x, I y) { return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
  template <int kCount>
  static I shift_right(I x) {
    return {_mm256_srai_epi32(x.a, kCount), _mm256_srai_epi32(x.b, kCount)};
  }
  static I shift_right(I x, I n) {
    return {_mm256_srlv_epi32(x.a, n.a), _mm256_srlv_epi32(x.b, n.b)};
  }
  static I where_equal(I x, I y, I z) {
    return {_mm256_and_si256(x.a, _mm256_cmpeq_epi32(y.a, z.a)),
            _mm256_and_si256(x.b, _mm256_cmpeq_epi32(y.b, z.b))};
  }
  static I where_less(I x, I y, I z) {
    return {_mm256_and_si256(x.a, _mm256_cmpgt_epi32(z.a, y.a)),
            _mm256_and_si256(x.b, _mm256_cmpgt_epi32(z.b, y.b))};
  }
  static std::int32_t sum(I x) {
    const __m256i s = _mm256_add_epi32(x.a, x.b);
    __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(t, _mm_shuffle_epi32(t, 0xB1)));
  }
  static std::int32_t largest(I x) {
    const __m256i s = _mm256_max_epi32(x.a, x.b);
    __m128i t = _mm_max_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0x4E));
    return _mm_cvtsi128_si32(_mm_max_epi32(t, _mm_shuffle_epi32(t, 0xB1)));
  }
  static void store_bytes(void* p, I x) {
    const __m256i low = _mm256_set1_epi32(255);
    const __m256i words =
        _mm256_packus_epi32(_mm256_and_si256(x.a, low), _mm256_and_si256(x.b, low));
    const __m256i bytes = _mm256_packus_epi16(words, words);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5);
    _mm_storeu_si128(static_cast<__m128i*>(p),
                     _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(bytes, order)));
  }
  static void store_bytes(void* p, I w, I x, I y, I z) {
    auto* bytes = static_cast<std::uint8_t*>(p);
    store_bytes(bytes, w);
    store_bytes(bytes + 16, x);
    store_bytes(bytes + 32, y);
    store_bytes(bytes + 48, z);
  }
  static void store_bytes_n(void* p, I x, std::int64_t n) {
    std::uint8_t buffer[16];
    store_bytes(buffer, x);
    for (int i = 0; i < 16 && i < n; ++i) static_cast<std::uint8_t*>(p)[i] = buffer[i];
  }

  static Inputs broadcast(const std::uint8_t* p) {
    std::int32_t four;
    __builtin_memcpy(&four, p, sizeof(four));
    const __m256i bytes = _mm256_set1_epi32(four);
    return {_mm256_and_si256(bytes, _mm256_set1_epi16(255)), _mm256_srli_epi16(bytes, 8)};
  }
  /// Not set1: gcc 12 takes it through a register and the stack.
  static I broadcast_pair(const std::int16_t* p) {
    const __m256i all = _mm256_broadcastd_epi32(_mm_loadu_si32(p));
    return {all, all};
  }
  static I even_bytes(Weights w) {
    const __m256i low = _mm256_set1_epi16(255);
    return {_mm256_and_si256(w.a, low), _mm256_and_si256(w.b, low)};
  }
  static I odd_bytes(Weights w) { return {_mm256_srli_epi16(w.a, 8), _mm256_srli_epi16(w.b, 8)}; }
  static void store_shorts(std::int16_t* p, I x) {
    const __m256i shorts = _mm256_packs_epi32(x.a, x.b);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(shorts, 0xD8));
  }
  static I dot_pairs(I sum, I x, I w) {
    return {_mm256_add_epi32(sum.a, _mm256_madd_epi16(x.a, w.a)),
            _mm256_add_epi32(sum.b, _mm256_madd_epi16(x.b, w.b))};
  }
  static Weights load_weights(const void* p) {
    const auto* v = static_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
  }
  static __m256i load_levels(const std::int8_t* p) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static __m256i look_up(__m256i levels, __m256i nibbles) {
    return _mm256_shuffle_epi8(levels, _mm256_and_si256(nibbles, _mm256_set1_epi8(15)));
  }
  static void load_nibbles(const std::uint8_t* p, __m256i levels, Weights& low, Weights& high) {
    const Weights bytes = load_weights(p);
    low = {look_up(levels, bytes.a), look_up(levels, bytes.b)};
    high = {look_up(levels, _mm256_srli_epi16(bytes.a, 4)),
            look_up(levels, _mm256_srli_epi16(bytes.b, 4))};
  }
  static void store_weights(std::int8_t* p, Weights w) {
    auto* v = reinterpret_cast<__m256i*>(p);
    _mm256_storeu_si256(v, w.a);
    _mm256_storeu_si256(v + 1, w.b);
  }
  static __m256i dot_half(__m256i sum, Inputs x, __m256i w) {
    const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8);
    const __m256i odd = _mm256_srai_epi16(w, 8);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x.even, even));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(x.odd, odd));
  }
  static I dot(I sum, Inputs x, Weights w) {
    return {dot_half(sum.a, x, w.a), dot_half(sum.b, x, w.b)};
  }
  static __m256i add_quads_of(__m256i sum, __m256i w) {
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), w);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static I add_quads(I sum, Weights w) {
    return {add_quads_of(sum.a, w.a), add_quads_of(sum.b, w.b)};
  }
  // In assembly: gcc takes a function that does nothing but fetch for one without effect.
  static void prefetch_far(const void* p) {
    __asm__ volatile("prefetcht1 %0" : : "m"(*static_cast<const char*>(p)));
  }
  static void prefetch(const void* p) {
    __asm__ volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(p)));
  }
};

}  // namespace
}  // namespace repquant::ops
