// LayerNorm with requantization, and requantization alone: one row after another.
#pragma once

#include "ops/kernels/kernels.h"
#include "ops/kernels/math.h"

namespace repquant::ops {
namespace {

/// Calls body(i, n) for every vector of a row: n = 16 lanes, fewer in the last one.
template <class Body>
void over_lanes(std::int64_t width, Body body) {
  std::int64_t i = 0;
  for (; i + 16 <= width; i += 16) body(i, std::int64_t{16});
  if (i < width) body(i, width - i);
}

/// Sum over a row: `lanes(s, i)` adds 16 values to s, in four sums so that additions overlap;
/// `single(i)` is one value of what is left.
template <class V, class Lanes, class Single>
float row_sum(std::int64_t width, Lanes lanes, Single single) {
  typename V::F s0 = V::set(0), s1 = s0, s2 = s0, s3 = s0;
  std::int64_t i = 0;
  for (; i + 64 <= width; i += 64) {
    s0 = lanes(s0, i);
    s1 = lanes(s1, i + 16);
    s2 = lanes(s2, i + 32);
    s3 = lanes(s3, i + 48);
  }
  for (; i + 16 <= width; i += 16) s0 = lanes(s0, i);
  float sum = V::sum(V::add(V::add(s0, s1), V::add(s2, s3)));
  for (; i < width; ++i) sum += single(i);
  return sum;
}

template <class V>
typename V::F load_lanes(const float* p, std::int64_t n) {
  return n == 16 ? V::load(p) : V::load_n(p, n);
}

template <class V>
void store_float_lanes(float* p, typename V::F values, std::int64_t n) {
  if (n == 16) {
    V::store(p, values);
  } else {
    V::store_n(p, values, n);
  }
}

template <class V>
void store_code_lanes(void* p, typename V::I codes, std::int64_t n) {
  if (n == 16) {
    V::store_bytes(p, codes);
  } else {
    V::store_bytes_n(p, codes, n);
  }
}

/// What a norm subtracts from a row and multiplies it by.
template <class V>
struct Normal {
  typename V::F centre, inverse;
};

/// Of `count` rows, at most kRowsTogether.
template <class V>
void find_normals(const float* x, int count, std::int64_t width, float epsilon,
                  bool root_mean_square, Normal<V>* normals) {
  float means[kRowsTogether] = {};
  for (int r = 0; r < count && !root_mean_square; ++r) {
    const float* row = x + r * width;
    const float sum = row_sum<V>(
        width, [&](typename V::F s, std::int64_t i) { return V::add(s, V::load(row + i)); },
        [&](std::int64_t i) { return row[i]; });
    means[r] = sum / static_cast<float>(width);
  }
  for (int r = 0; r < count; ++r) {
    const float *row = x + r * width, mean = means[r];
    const auto centre = V::set(mean);
    const float squares = row_sum<V>(
        width,
        [&](typename V::F s, std::int64_t i) {
          const auto d = V::sub(V::load(row + i), centre);
          return V::fma(d, d, s);
        },
        [&](std::int64_t i) { return (row[i] - mean) * (row[i] - mean); });
    const auto variance = V::set(squares / static_cast<float>(width) + epsilon);
    normals[r] = {centre, V::div(V::set(1.0F), V::sqrt(variance))};
  }
}

/// 16 places of a row after its norm (n of them).
template <class V>
typename V::F normalised(const Normal<V>& normal, const float* x, const float* weight,
                         const float* bias, std::int64_t i, std::int64_t n) {
  const auto centred = V::sub(load_lanes<V>(x + i, n), normal.centre);
  return V::fma(V::mul(centred, normal.inverse), load_lanes<V>(weight + i, n),
                load_lanes<V>(bias + i, n));
}

template <class V>
void norm_quantize(const NormArgs& args, std::int64_t row_begin, std::int64_t row_end) {
  const std::int64_t width = args.width;
  const auto low = V::set(0.5F), high = V::set(static_cast<float>(args.max_code) + 0.5F);
  for (std::int64_t begin = row_begin; begin < row_end; begin += kRowsTogether) {
    const std::int64_t left = row_end - begin;
    const int count = static_cast<int>(left < kRowsTogether ? left : kRowsTogether);
    Normal<V> normals[kRowsTogether];
    find_normals<V>(args.x + begin * width, count, width, args.epsilon, args.root_mean_square,
                    normals);
    for (int r = 0; r < count; ++r) {
      const float* x = args.x + (begin + r) * width;
      std::uint8_t* codes = args.codes + (begin + r) * width;
      const auto [centre, inverse] = normals[r];
      over_lanes(width, [&, centre = centre, inverse = inverse](std::int64_t i, std::int64_t n) {
        const auto normal = V::mul(V::sub(load_lanes<V>(x + i, n), centre), inverse);
        // Rounds half up by truncating y + 1/2, as the portable class does.
        const auto bias = V::add(load_lanes<V>(args.bias + i, n), V::set(0.5F));
        const auto y = V::fma(normal, load_lanes<V>(args.weight + i, n), bias);
        store_code_lanes<V>(codes + i, V::truncate(V::min(V::max(y, low), high)), n);
      });
    }
  }
}

template <class V, bool kPerChannel>
void quantize_rows(const QuantizeArgs& args, std::int64_t row_begin, std::int64_t row_end) {
  const std::int64_t width = args.width;
  const float top = static_cast<float>(args.max_code);
  const auto limit = V::set(args.quadratic ? top * top : top);
  const auto shift = V::set_int(args.shift);
  auto m = V::set(args.multiplier[0]), a = V::set(args.offset[0]);
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const float* x = args.x + row * width;
    std::uint8_t* codes = args.codes + row * width;
    over_lanes(width, [&](std::int64_t i, std::int64_t n) {
      if constexpr (kPerChannel) {
        m = load_lanes<V>(args.multiplier + i, n);
        a = load_lanes<V>(args.offset + i, n);
      }
      const auto u = grid_value<V>(load_lanes<V>(x + i, n), m, a, limit);
      const auto q = args.quadratic ? square_code<V>(u) : V::sub(V::to_int(u), shift);
      store_code_lanes<V>(codes + i, q, n);
    });
  }
}

template <class V>
void quantize(const QuantizeArgs& args, std::int64_t row_begin, std::int64_t row_end) {
  if (args.per_channel) {
    quantize_rows<V, true>(args, row_begin, row_end);
  } else {
    quantize_rows<V, false>(args, row_begin, row_end);
  }
}

}  // namespace
}  // namespace repquant::ops
