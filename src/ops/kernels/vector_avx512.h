// 16 lanes in one AVX-512 register; the byte product is vpdpbusd (AVX-512 VNNI), which is exact.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "ops/kernels/bytes.h"

namespace repquant::ops {
namespace {

struct Avx512 {
  static constexpr bool kOverlaps = true;
  static constexpr int kRows = 6;
  static constexpr int kVectors = 4;
  static constexpr int kPairRows = 6;
  static constexpr int kPairVectors = 4;
  static constexpr int kGroupRows = 3;
  static constexpr int kGroupSums = 12;
  static constexpr int kGroupFewRows = 4;

  using F = __m512;
  using I = __m512i;
  using Inputs = __m512i;
  using Weights = __m512i;

  static __mmask16 first(std::int64_t n) {
    return n >= 16 ? static_cast<__mmask16>(0xFFFF) : static_cast<__mmask16>((1U << n) - 1U);
  }

  static F set(float x) { return _mm512_set1_ps(x); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static F load_n(const float* p, std::int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
  /// `other` in the lanes from n on.
  static F load_n(const float* p, std::int64_t n, float other) {
    return _mm512_mask_loadu_ps(set(other), first(n), p);
  }
  static void store(float* p, F a) { _mm512_storeu_ps(p, a); }
  static void store_n(float* p, F a, std::int64_t n) { _mm512_mask_storeu_ps(p, first(n), a); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  /// a - b c
  static F sub_product(F a, F b, F c) { return _mm512_fnmadd_ps(b, c, a); }
  static F min(F a, F b) { return _mm512_min_ps(a, b); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F sqrt(F a) { return _mm512_sqrt_ps(a); }
  /// The error of 2^-14 is below 0.001; the root of an integer is at least 1 / (8 * 16) from a tie.
  static F code_root(F a) {
    return _mm512_mul_ps(a, _mm512_rsqrt14_ps(_mm512_max_ps(a, _mm512_set1_ps(1.0F))));
  }
  static F abs(F a) { return _mm512_abs_ps(a); }
  static I bits(F a) { return _mm512_castps_si512(a); }
  /// table[the lowest four bits of an index]
  static F lookup(const float* table, F index) {
    return _mm512_permutexvar_ps(_mm512_castps_si512(index), _mm512_load_ps(table));
  }
  static F round(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT); }
  static I to_int(F a) { return _mm512_cvtps_epi32(a); }
  static I truncate(F a) { return _mm512_cvttps_epi32(a); }
  static F to_float(I a) { return _mm512_cvtepi32_ps(a); }
  static F scale_exponent(F a, F n) { return _mm512_scalef_ps(a, n); }
  static float sum(F a) {
    const __m256 s = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    const __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    const __m128 u = _mm_add_ps(t, _mm_movehl_ps(t, t));
    return _mm_cvtss_f32(_mm_add_ss(u, _mm_shuffle_ps(u, u, 1)));
  }
  static float largest(F a) { return _mm512_reduce_max_ps(a); }

  /// Of 16 vectors, a lane for each.
  static F largest_of_each(const F* vectors) {
    __m512 fours[4];  // lanes of 128 bits: of vectors i, i + 4, i + 8 and i + 12
    for (int i = 0; i < 4; ++i) {
      const __m512 low = largest_halves(vectors[i], vectors[i + 4]),
                   high = largest_halves(vectors[i + 8], vectors[i + 12]);
      fours[i] = _mm512_max_ps(_mm512_shuffle_f32x4(low, high, 0x88),
                               _mm512_shuffle_f32x4(low, high, 0xDD));
    }
    const auto step = [](__m512 x, __m512 y) {
      return _mm512_max_ps(_mm512_unpacklo_ps(x, y), _mm512_unpackhi_ps(x, y));
    };
    return step(step(fours[0], fours[2]), step(fours[1], fours[3]));
  }
  /// Lanes of 128 bits: two of x, two of y.
  static __m512 largest_halves(__m512 x, __m512 y) {
    return _mm512_max_ps(_mm512_shuffle_f32x4(x, y, 0x44), _mm512_shuffle_f32x4(x, y, 0xEE));
  }

  static I set_int(std::int32_t x) { return _mm512_set1_epi32(x); }
  static I load_int(const std::int32_t* p) { return _mm512_loadu_si512(p); }
  static void store_int(std::int32_t* p, I a) { _mm512_storeu_si512(p, a); }
  static I load_bytes(const std::int8_t* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static I load_bytes_n(const std::int8_t* p, std::int64_t n) {
    return _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first(n), p));
  }
  static I add(I a, I b) { return _mm512_add_epi32(a, b); }
  static I sub(I a, I b) { return _mm512_sub_epi32(a, b); }
  static I mul(I a, I b) { return _mm512_mullo_epi32(a, b); }
  static I min(I a, I b) { return _mm512_min_epi32(a, b); }
  static I max(I a, I b) { return _mm512_max_epi32(a, b); }
  static I bit_and(I a, I b) { return _mm512_and_si512(a, b); }
  template <int kCount>
  static I shift_right(I a) {
    return _mm512_srai_epi32(a, kCount);
  }
  static I shift_right(I a, I n) { return _mm512_srlv_epi32(a, n); }
  static I where_equal(I a, I b, I c) {
    return _mm512_maskz_mov_epi32(_mm512_cmpeq_epi32_mask(b, c), a);
  }
  static I where_less(I a, I b, I c) {
    return _mm512_maskz_mov_epi32(_mm512_cmplt_epi32_mask(b, c), a);
  }
  static std::int32_t sum(I a) { return _mm512_reduce_add_epi32(a); }
  static std::int32_t largest(I a) { return _mm512_reduce_max_epi32(a); }
  static void store_bytes(void* p, I a) {
    _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
  }
  /// Of four vectors in a row, lanes from 0 to 255, or the lowest number, whose byte is 0.
  static void store_bytes(void* p, I a, I b, I c, I d) {
    const __m512i bytes = _mm512_packus_epi16(_mm512_packus_epi32(a, b), _mm512_packus_epi32(c, d));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, bytes));
  }
  static void store_bytes_n(void* p, I a, std::int64_t n) {
    _mm512_mask_cvtepi32_storeu_epi8(p, first(n), a);
  }

  static Inputs broadcast(const std::uint8_t* p) {
    std::int32_t four;
    __builtin_memcpy(&four, p, sizeof(four));
    return _mm512_set1_epi32(four);
  }
  static I broadcast_pair(const std::int16_t* p) {
    std::int32_t two;
    __builtin_memcpy(&two, p, sizeof(two));
    return _mm512_set1_epi32(two);
  }
  static I even_bytes(Weights w) { return _mm512_and_si512(w, _mm512_set1_epi16(255)); }
  static I odd_bytes(Weights w) { return _mm512_srli_epi16(w, 8); }
  static void store_shorts(std::int16_t* p, I a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(a));
  }
  /// In assembly as dot().
  static I dot_pairs(I sum, I x, I w) {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
  }
  static Weights load_weights(const void* p) { return _mm512_loadu_si512(p); }
  static Weights load_levels(const std::int8_t* p) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void load_nibbles(const std::uint8_t* p, Weights levels, Weights& low, Weights& high) {
    const __m512i bytes = _mm512_loadu_si512(p);
    const __m512i mask = _mm512_set1_epi8(15);
    low = _mm512_shuffle_epi8(levels, _mm512_and_si512(bytes, mask));
    high = _mm512_shuffle_epi8(levels, _mm512_and_si512(_mm512_srli_epi16(bytes, 4), mask));
  }
  static void store_weights(std::int8_t* p, Weights w) { _mm512_storeu_si512(p, w); }
  /// In assembly, because gcc 12 copies and spills the accumulators of a tile around the intrinsic:
  /// the matrix product runs twice as fast this way.
  static I dot(I sum, Inputs x, Weights w) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
  }
  static I add_quads(I sum, Weights w) { return dot(sum, _mm512_set1_epi8(1), w); }
  static constexpr bool kMapsBytes = true;
  /// bytes[i] = table[bytes[i]] for a table of 256.
  static void map_bytes(const std::uint8_t* table, std::uint8_t* bytes, std::int64_t n) {
    static const bool permutes_bytes = __builtin_cpu_supports("avx512vbmi") != 0;
    if (permutes_bytes) {
      permute_bytes(table, bytes, n);
    } else {
      permute_words(table, bytes, n);
    }
  }
  __attribute__((target("avx512vbmi"))) static void permute_bytes(const std::uint8_t* table,
                                                                  std::uint8_t* bytes,
                                                                  std::int64_t n) {
    __m512i part[4];
    for (int k = 0; k < 4; ++k) part[k] = _mm512_loadu_si512(table + 64 * k);
    for (std::int64_t i = 0; i < n; i += 64) {
      const __mmask64 live = n - i < 64 ? (1ULL << (n - i)) - 1 : ~0ULL;
      const __m512i code = _mm512_maskz_loadu_epi8(live, bytes + i);
      const __m512i low = _mm512_permutex2var_epi8(part[0], code, part[1]);
      const __m512i high = _mm512_permutex2var_epi8(part[2], code, part[3]);
      const __mmask64 upper = _mm512_movepi8_mask(code);
      _mm512_mask_storeu_epi8(bytes + i, live, _mm512_mask_blend_epi8(upper, low, high));
    }
  }
  /// Where only words of four bytes can be permuted.
  static void permute_words(const std::uint8_t* table, std::uint8_t* bytes, std::int64_t n) {
    __m512i part[4];
    for (int k = 0; k < 4; ++k) part[k] = _mm512_loadu_si512(table + 64 * k);
    for (std::int64_t i = 0; i < n; i += 16) {
      const __mmask16 live = first(n - i);
      const __m512i code = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(live, bytes + i));
      const __m512i word = _mm512_srli_epi32(code, 2);
      const __m512i low = _mm512_permutex2var_epi32(part[0], word, part[1]);
      const __m512i high = _mm512_permutex2var_epi32(part[2], word, part[3]);
      const __mmask16 upper = _mm512_test_epi32_mask(code, _mm512_set1_epi32(128));
      const __m512i found = _mm512_mask_blend_epi32(upper, low, high);
      const __m512i shift = _mm512_slli_epi32(_mm512_and_si512(code, _mm512_set1_epi32(3)), 3);
      _mm512_mask_cvtepi32_storeu_epi8(bytes + i, live, _mm512_srlv_epi32(found, shift));
    }
  }
  /// Row r, zeros where there is none.
  static __m512i row(const Rows& rows, int r) {
    if (r >= rows.live) return _mm512_setzero_si512();
    if (rows.bytes == 64) return _mm512_loadu_si512(rows[r]);
    return _mm512_maskz_loadu_epi8((1ULL << rows.bytes) - 1, rows[r]);
  }
  /// A 4 x 4 transposition of the 128-bit lanes of four vectors.
  static void transpose_lanes(__m512i& a, __m512i& b, __m512i& c, __m512i& d) {
    const __m512i low_ab = _mm512_shuffle_i32x4(a, b, 0x44),
                  low_cd = _mm512_shuffle_i32x4(c, d, 0x44);
    const __m512i high_ab = _mm512_shuffle_i32x4(a, b, 0xEE);
    const __m512i high_cd = _mm512_shuffle_i32x4(c, d, 0xEE);
    a = _mm512_shuffle_i32x4(low_ab, low_cd, 0x88);
    b = _mm512_shuffle_i32x4(low_ab, low_cd, 0xDD);
    c = _mm512_shuffle_i32x4(high_ab, high_cd, 0x88);
    d = _mm512_shuffle_i32x4(high_ab, high_cd, 0xDD);
  }
  static void transpose(const Rows& rows, std::uint8_t* to, std::int64_t step) {
    __m512i columns[16];  // 4 q + k: after four rows, word 4 lane + k of rows 4 q and up
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
      const __m512i a = row(rows, 4 * q), b = row(rows, 4 * q + 1), c = row(rows, 4 * q + 2),
                    d = row(rows, 4 * q + 3);
      const __m512i ab_low = _mm512_unpacklo_epi32(a, b), ab_high = _mm512_unpackhi_epi32(a, b);
      const __m512i cd_low = _mm512_unpacklo_epi32(c, d), cd_high = _mm512_unpackhi_epi32(c, d);
      columns[4 * q] = _mm512_unpacklo_epi64(ab_low, cd_low);
      columns[4 * q + 1] = _mm512_unpackhi_epi64(ab_low, cd_low);
      columns[4 * q + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
      columns[4 * q + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
    }
    const std::int64_t words = (rows.bytes + 3) / 4;
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      __m512i lanes[4] = {columns[k], columns[4 + k], columns[8 + k], columns[12 + k]};
      transpose_lanes(lanes[0], lanes[1], lanes[2], lanes[3]);
#pragma GCC unroll 4
      for (int lane = 0; lane < 4; ++lane) {
        const std::int64_t word = 4 * lane + k;
        if (word < words) _mm512_storeu_si512(to + word * step, lanes[lane]);
      }
    }
  }
  static void interleave(const Rows& rows, std::uint8_t* to) {
    const __m512i a = row(rows, 0), b = row(rows, 1), c = row(rows, 2), d = row(rows, 3);
    const __m512i ab_low = _mm512_unpacklo_epi8(a, b), ab_high = _mm512_unpackhi_epi8(a, b);
    const __m512i cd_low = _mm512_unpacklo_epi8(c, d), cd_high = _mm512_unpackhi_epi8(c, d);
    __m512i out[4] = {_mm512_unpacklo_epi16(ab_low, cd_low), _mm512_unpackhi_epi16(ab_low, cd_low),
                      _mm512_unpacklo_epi16(ab_high, cd_high),
                      _mm512_unpackhi_epi16(ab_high, cd_high)};
    transpose_lanes(out[0], out[1], out[2], out[3]);
    for (int v = 0; v < 4; ++v) _mm512_storeu_si512(to + 64 * v, out[v]);
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
