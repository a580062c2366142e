// 16 lanes in plain C++: the reference for the intrinsic versions, and the fallback everywhere.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "ops/kernels/bytes.h"

namespace repquant::ops {
namespace {

struct Generic : PlainBytes {
  static constexpr bool kOverlaps = false;
  static constexpr int kRows = 4;      // of a tile of the matrix product
  static constexpr int kVectors = 1;   // of 16 columns
  static constexpr int kPairRows = 4;  // of a tile of the product of pairs
  static constexpr int kPairVectors = 1;
  // Of a tile of the product of codes in groups: rows, of one that reads the weight itself, too,
  // and sums of each kind, which stay in registers.
  static constexpr int kGroupRows = 4;
  static constexpr int kGroupFewRows = 4;
  static constexpr int kGroupSums = 4;

  struct F {
    float v[16];
  };
  struct I {
    std::int32_t v[16];
  };
  struct Inputs {
    std::uint8_t v[4];
  };
  struct Weights {
    std::int8_t v[64];
  };

  template <class R, class Op>
  static R each(Op op) {
    R r;
    for (int i = 0; i < 16; ++i) r.v[i] = op(i);
    return r;
  }

  static F set(float x) {
    return each<F>([&](int) { return x; });
  }
  static F load(const float* p) {
    F r;
    std::memcpy(r.v, p, sizeof(r.v));
    return r;
  }
  static F load_n(const float* p, std::int64_t n, float other = 0.0F) {
    return each<F>([&](int i) { return i < n ? p[i] : other; });
  }
  static void store(float* p, F a) { std::memcpy(p, a.v, sizeof(a.v)); }
  static void store_n(float* p, F a, std::int64_t n) {
    for (int i = 0; i < 16 && i < n; ++i) p[i] = a.v[i];
  }
  static F add(F a, F b) {
    return each<F>([&](int i) { return a.v[i] + b.v[i]; });
  }
  static F sub(F a, F b) {
    return each<F>([&](int i) { return a.v[i] - b.v[i]; });
  }
  static F mul(F a, F b) {
    return each<F>([&](int i) { return a.v[i] * b.v[i]; });
  }
  static F div(F a, F b) {
    return each<F>([&](int i) { return a.v[i] / b.v[i]; });
  }
  static F fma(F a, F b, F c) {
    return each<F>([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
  }
  /// a - b c
  static F sub_product(F a, F b, F c) {
    return each<F>([&](int i) { return std::fma(-b.v[i], c.v[i], a.v[i]); });
  }
  // As the x86 instructions: the second operand if either is NaN.
  static F min(F a, F b) {
    return each<F>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  static F max(F a, F b) {
    return each<F>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static F sqrt(F a) {
    return each<F>([&](int i) { return std::sqrt(a.v[i]); });
  }
  static F abs(F a) {
    return each<F>([&](int i) { return std::fabs(a.v[i]); });
  }
  static I bits(F a) {
    return each<I>([&](int i) { return std::bit_cast<std::int32_t>(a.v[i]); });
  }
  /// table[the lowest four bits of an index]
  static F lookup(const float* table, F index) {
    return each<F>([&](int i) { return table[std::bit_cast<std::uint32_t>(index.v[i]) & 15U]; });
  }
  /// Within 1 / 128 of sqrt(a), for integers a in [0, 255].
  static F code_root(F a) { return sqrt(a); }
  static F round(F a) {
    return each<F>([&](int i) { return std::nearbyint(a.v[i]); });
  }
  /// Of what does not fit, NaN too, the lowest number, as from the processors' vectors.
  static std::int32_t whole(float x) {
    return x >= -0x1p31F && x < 0x1p31F ? static_cast<std::int32_t>(x)
                                        : std::numeric_limits<std::int32_t>::min();
  }
  static I to_int(F a) {
    return each<I>([&](int i) { return whole(std::nearbyint(a.v[i])); });
  }
  static I truncate(F a) {
    return each<I>([&](int i) { return whole(a.v[i]); });
  }
  static F to_float(I a) {
    return each<F>([&](int i) { return static_cast<float>(a.v[i]); });
  }
  /// a 2^n for whole n, where both a and the result are normal numbers.
  static F scale_exponent(F a, F n) {
    return each<F>([&](int i) {
      const auto bits = std::bit_cast<std::uint32_t>(a.v[i]);
      const auto power = static_cast<std::uint32_t>(whole(n.v[i]));
      return std::bit_cast<float>(bits + (power << 23));
    });
  }
  static float sum(F a) {
    for (int half = 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) a.v[i] += a.v[i + half];
    }
    return a.v[0];
  }
  static float largest(F a) {
    for (int i = 1; i < 16; ++i) a.v[0] = a.v[i] > a.v[0] ? a.v[i] : a.v[0];
    return a.v[0];
  }

  /// Of 16 vectors, a lane for each.
  static F largest_of_each(const F* vectors) {
    return each<F>([&](int i) { return largest(vectors[i]); });
  }

  static I set_int(std::int32_t x) {
    return each<I>([&](int) { return x; });
  }
  static I load_int(const std::int32_t* p) {
    I r;
    std::memcpy(r.v, p, sizeof(r.v));
    return r;
  }
  static void store_int(std::int32_t* p, I a) { std::memcpy(p, a.v, sizeof(a.v)); }
  static I load_bytes(const std::int8_t* p) {
    return each<I>([&](int i) { return static_cast<std::int32_t>(p[i]); });
  }
  static I load_bytes_n(const std::int8_t* p, std::int64_t n) {
    return each<I>([&](int i) { return i < n ? static_cast<std::int32_t>(p[i]) : 0; });
  }
  // Sums and products wrap, as those of the processors' vectors do.
  static std::uint32_t unsigned_of(std::int32_t x) { return static_cast<std::uint32_t>(x); }
  static std::int32_t wrapped(std::uint32_t x) { return static_cast<std::int32_t>(x); }
  static I add(I a, I b) {
    return each<I>([&](int i) { return wrapped(unsigned_of(a.v[i]) + unsigned_of(b.v[i])); });
  }
  static I sub(I a, I b) {
    return each<I>([&](int i) { return wrapped(unsigned_of(a.v[i]) - unsigned_of(b.v[i])); });
  }
  static I mul(I a, I b) {
    return each<I>([&](int i) { return wrapped(unsigned_of(a.v[i]) * unsigned_of(b.v[i])); });
  }
  static I min(I a, I b) {
    return each<I>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  static I max(I a, I b) {
    return each<I>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static I bit_and(I a, I b) {
    return each<I>([&](int i) { return a.v[i] & b.v[i]; });
  }
  template <int kCount>
  static I shift_right(I a) {
    return each<I>([&](int i) { return a.v[i] >> kCount; });
  }
  /// a >> n for a >= 0; 0 for n outside [0, 31], which lanes beyond the last column may hold.
  static I shift_right(I a, I n) {
    return each<I>([&](int i) { return n.v[i] < 0 || n.v[i] > 31 ? 0 : a.v[i] >> n.v[i]; });
  }
  /// a where b == c, else 0.
  static I where_equal(I a, I b, I c) {
    return each<I>([&](int i) { return b.v[i] == c.v[i] ? a.v[i] : 0; });
  }
  /// a where b < c, else 0.
  static I where_less(I a, I b, I c) {
    return each<I>([&](int i) { return b.v[i] < c.v[i] ? a.v[i] : 0; });
  }
  static std::int32_t sum(I a) {
    std::uint32_t s = 0;
    for (int i = 0; i < 16; ++i) s += unsigned_of(a.v[i]);
    return wrapped(s);
  }
  static std::int32_t largest(I a) {
    for (int i = 1; i < 16; ++i) a.v[0] = a.v[i] > a.v[0] ? a.v[i] : a.v[0];
    return a.v[0];
  }
  /// The low byte of every lane.
  static void store_bytes(void* p, I a) { store_bytes_n(p, a, 16); }
  /// Of four vectors in a row, lanes from 0 to 255, or the lowest number, whose byte is 0.
  static void store_bytes(void* p, I a, I b, I c, I d) {
    auto* bytes = static_cast<std::uint8_t*>(p);
    store_bytes(bytes, a);
    store_bytes(bytes + 16, b);
    store_bytes(bytes + 32, c);
    store_bytes(bytes + 48, d);
  }
  static void store_bytes_n(void* p, I a, std::int64_t n) {
    auto* bytes = static_cast<std::uint8_t*>(p);
    for (int i = 0; i < 16 && i < n; ++i) bytes[i] = static_cast<std::uint8_t>(a.v[i]);
  }

  /// Four consecutive unsigned inputs, for all lanes.
  static Inputs broadcast(const std::uint8_t* p) {
    Inputs r;
    std::memcpy(r.v, p, sizeof(r.v));
    return r;
  }
  /// Two consecutive 16-bit numbers, for all lanes.
  static I broadcast_pair(const std::int16_t* p) {
    std::int32_t two;
    std::memcpy(&two, p, sizeof(two));
    return set_int(two);
  }
  /// Bytes 0 and 2 of four, unsigned, as the 16-bit numbers of a lane; bytes 1 and 3.
  static I even_bytes(const Weights& w) { return byte_pairs(w, 0); }
  static I odd_bytes(const Weights& w) { return byte_pairs(w, 1); }
  static I byte_pairs(const Weights& w, int first) {
    const auto byte = [&](int i) { return static_cast<std::uint8_t>(w.v[i]); };
    return each<I>([&](int i) { return byte(4 * i + first) | byte(4 * i + first + 2) << 16; });
  }
  /// Of each lane its number.
  static void store_shorts(std::int16_t* p, I a) {
    for (int i = 0; i < 16; ++i) p[i] = static_cast<std::int16_t>(a.v[i]);
  }
  /// sum + products of both halves of each lane, signed.
  static I dot_pairs(I sum, I x, I w) {
    const auto low = [](std::int32_t pair) { return static_cast<std::int16_t>(pair); };
    for (int i = 0; i < 16; ++i) {
      sum.v[i] += low(x.v[i]) * low(w.v[i]) + (x.v[i] >> 16) * (w.v[i] >> 16);
    }
    return sum;
  }
  /// Four consecutive signed weights of each of 16 columns.
  static Weights load_weights(const void* p) {
    Weights r;
    std::memcpy(r.v, p, sizeof(r.v));
    return r;
  }
  static const std::int8_t* load_levels(const std::int8_t* p) { return p; }
  /// 64 bytes of nibbles: low nibbles are one group of four inputs, high nibbles the next.
  static void load_nibbles(const std::uint8_t* p, const std::int8_t* levels, Weights& low,
                           Weights& high) {
    for (int i = 0; i < 64; ++i) {
      low.v[i] = levels[p[i] & 15];
      high.v[i] = levels[p[i] >> 4];
    }
  }
  static void store_weights(std::int8_t* p, const Weights& w) { std::memcpy(p, w.v, sizeof(w.v)); }
  static I dot(I sum, const Inputs& x, const Weights& w) {
    for (int i = 0; i < 16; ++i) {
      for (int k = 0; k < 4; ++k) sum.v[i] += x.v[k] * w.v[4 * i + k];
    }
    return sum;
  }
  /// sum + the four weights of each column.
  static I add_quads(I sum, const Weights& w) { return dot(sum, {{1, 1, 1, 1}}, w); }
  static void prefetch_far(const void*) {}
  static void prefetch(const void*) {}
};

}  // namespace
}  // namespace repquant::ops
