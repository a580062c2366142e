// Elementwise functions on 16 lanes. Polynomials are least-squares fits at Chebyshev points, made
// for these kernels; the errors named are the largest over the range, in float32.
#pragma once

#include "ops/kernels/kernels.h"

/// Where a call would cost what registers hold.
#define REPQUANT_INLINE inline __attribute__((always_inline))

namespace repquant::ops {
namespace {

/// The same value, but nothing that the compiler knows: loads through it are not moved out of a
/// loop into registers that the accumulators need.
template <class T>
T opaque(T value) {
  __asm__ volatile("" : "+r"(value));
  return value;
}

/// c[0] + t (c[1] + t (c[2] + ..)). Unrolled by recursion: gcc leaves a loop as it is where a
/// function has grown large.
template <class V, int kDegree>
typename V::F polynomial(const float* c, typename V::F t) {
  if constexpr (kDegree == 0) {
    return V::set(c[0]);
  } else {
    return V::fma(polynomial<V, kDegree - 1>(c + 1, t), t, V::set(c[0]));
  }
}

struct Exp2 {
  float lowest = -126.0F, highest = 126.0F;
  float power[6] = {1.0F,
                    6.931470037e-01F,
                    2.402224243e-01F,
                    5.550733581e-02F,
                    9.671512991e-03F,
                    1.326473313e-03F};
};
inline constexpr Exp2 kExp2;

/// 2^x to 2 units in the last place, for x <= 126; 2^-126 below -126.
template <class V>
typename V::F exp2(typename V::F x) {
  const Exp2& with = *opaque(&kExp2);
  x = V::max(x, V::set(with.lowest));
  const auto whole = V::round(x);
  return V::scale_exponent(polynomial<V, 5>(with.power, V::sub(x, whole)), whole);
}

/// step(k) for k below kCount, unrolled: `step` works on arrays that stay in registers.
template <int kCount, class Step>
REPQUANT_INLINE void for_each(Step step) {
#pragma GCC unroll 8
  for (int k = 0; k < kCount; ++k) step(k);
}

/// exp2() of several vectors, each step of all of them before the next.
template <class V, int kCount>
REPQUANT_INLINE void exp2_each(typename V::F (&x)[kCount]) {
  typename V::F whole[kCount], power[kCount];
  for_each<kCount>([&](int k) { x[k] = V::max(x[k], V::set(kExp2.lowest)); });
  for_each<kCount>([&](int k) { whole[k] = V::round(x[k]); });
  for_each<kCount>([&](int k) { x[k] = V::sub(x[k], whole[k]); });
  for_each<kCount>([&](int k) { power[k] = V::set(kExp2.power[5]); });
#pragma GCC unroll 8
  for (int degree = 4; degree >= 0; --degree) {
    for_each<kCount>(
        [&](int k) { power[k] = V::fma(power[k], x[k], V::set(kExp2.power[degree])); });
  }
  for_each<kCount>([&](int k) { x[k] = V::scale_exponent(power[k], whole[k]); });
}

/// 1 - Phi(a) for 0 <= a <= 7.5: polynomials of a - k / 2 around k = 0 .. 15, by power.
struct Gelu {
  alignas(64) float tail[5][16] = {
      {4.999999702e-01F, 3.085375726e-01F, 1.586552709e-01F, 6.680719554e-02F, 2.275012247e-02F,
       6.209661253e-03F, 1.349898870e-03F, 2.326304530e-04F, 3.167187606e-05F, 3.397845376e-06F,
       2.866830755e-07F, 1.899364399e-08F, 9.869727258e-10F, 4.018688854e-11F, 1.281216019e-12F,
       3.196413335e-14F},
      {-3.989385962e-01F, -3.520597517e-01F, -2.419755608e-01F, -1.295246929e-01F,
       -5.399372429e-02F, -1.752751507e-02F, -4.430504981e-03F, -8.719741600e-04F,
       -1.336056011e-04F, -1.593529669e-05F, -1.479256184e-06F, -1.068551896e-07F,
       -6.005154596e-09F, -2.624944984e-10F, -8.921856309e-12F, -2.357096181e-13F},
      {-1.180772306e-04F, 8.800965548e-02F, 1.209809557e-01F, 9.713960439e-02F, 5.399390683e-02F,
       2.191150934e-02F, 6.647538394e-03F, 1.526800101e-03F, 2.674782882e-04F, 3.591391214e-05F,
       3.707752512e-06F, 2.949973918e-07F, 1.811731032e-08F, 8.599140289e-10F, 3.157051703e-11F,
       8.971174498e-13F},
      {6.781966984e-02F, 4.365169629e-02F, 3.111557744e-04F, -2.652718686e-02F, -2.681913972e-02F,
       -1.538798772e-02F, -5.995255895e-03F, -1.681591501e-03F, -3.489081864e-04F,
       -5.436495485e-05F, -6.420770205e-06F, -5.783697929e-07F, -3.990816921e-08F,
       -2.116089748e-09F, -8.642926652e-11F, -2.724233165e-12F},
      {-6.128896028e-03F, -1.988483965e-02F, -1.997600682e-02F, -6.131609436e-03F, 4.373491742e-03F,
       5.885735154e-03F, 3.333976725e-03F, 1.194071257e-03F, 2.977290424e-04F, 5.380270886e-05F,
       7.197977084e-06F, 7.221208875e-07F, 5.478515419e-08F, 3.161714890e-09F, 1.393961058e-10F,
       4.710316338e-12F}};
  float range = 7.5F;
  float magic =
      6291456.0F;  // 1.5 2^22: a sum with it is a multiple of 1 / 2, counted in its lowest bits
};
inline constexpr Gelu kGelu;

/// x Phi(x) to 7e-7, as max(x, 0) - |x| (1 - Phi(|x|)). NaN stays NaN.
///
/// Multiplications are few because they take the ports of the integer products that this runs
/// beside; additions, comparisons and permutations do not.
template <class V>
typename V::F gelu(typename V::F x) {
  const Gelu& with = *opaque(&kGelu);
  const auto a = V::min(V::abs(x), V::set(with.range));
  const auto k = V::add(a, V::set(with.magic));
  const auto t = V::sub(a, V::sub(k, V::set(with.magic)));
  auto p = V::lookup(with.tail[4], k);
  p = V::fma(p, t, V::lookup(with.tail[3], k));
  p = V::fma(p, t, V::lookup(with.tail[2], k));
  p = V::fma(p, t, V::lookup(with.tail[1], k));
  p = V::fma(p, t, V::lookup(with.tail[0], k));
  return V::sub_product(V::max(V::set(0.0F), x), a, p);
}

struct Sigmoid {
  float silu = -1.4426950409F;  // -log2(e)
  // -2 sqrt(2 / pi) log2(e) (1 + 0.044715 x^2), by power
  float tanh_constant = -2.0F * 0.7978845608F * 1.4426950409F;
  float tanh_square = -2.0F * 0.7978845608F * 1.4426950409F * 0.044715F;
};
inline constexpr Sigmoid kSigmoid;

/// x / (1 + 2^power)
template <class V>
typename V::F sigmoid_times(typename V::F x, typename V::F power) {
  const auto bounded = V::min(power, V::set(opaque(&kExp2)->highest));
  return V::div(x, V::add(exp2<V>(bounded), V::set(opaque(&kExp2)->power[0])));
}

/// x / (1 + exp(-x))
template <class V>
typename V::F silu(typename V::F x) {
  return sigmoid_times<V>(x, V::mul(x, V::set(opaque(&kSigmoid)->silu)));
}

/// x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, which is x sigmoid(2 sqrt(2 / pi) (..)).
template <class V>
typename V::F gelu_tanh(typename V::F x) {
  const Sigmoid& with = *opaque(&kSigmoid);
  const auto slope = V::fma(V::mul(x, x), V::set(with.tanh_square), V::set(with.tanh_constant));
  return sigmoid_times<V>(x, V::mul(x, slope));
}

/// x clamp(x + 3, 0, 6) / 6
template <class V>
typename V::F hardswish(typename V::F x) {
  const auto six = V::set(6.0F);
  const auto gate = V::min(V::max(V::add(x, V::set(3.0F)), V::set(0.0F)), six);
  return V::div(V::mul(x, gate), six);
}

template <class V, Activation kActivation>
typename V::F activate(typename V::F x) {
  if constexpr (kActivation == Activation::kRelu) return V::max(x, V::set(0.0F));
  if constexpr (kActivation == Activation::kGelu) return gelu<V>(x);
  if constexpr (kActivation == Activation::kGeluTanh) return gelu_tanh<V>(x);
  if constexpr (kActivation == Activation::kSilu) return silu<V>(x);
  if constexpr (kActivation == Activation::kHardswish) return hardswish<V>(x);
  return x;
}

/// clamp(x m + a, 0, top), in two roundings as the portable form has it. The bounds are whole, so
/// that rounding it to a code afterwards is as good as before.
template <class V>
typename V::F grid_value(typename V::F x, typename V::F m, typename V::F a, typename V::F top) {
  return V::min(V::max(V::add(V::mul(x, m), a), V::set(0.0F)), top);
}

/// round(sqrt(round(u)))^2 of u in [0, 255]: the quadratic grid's nearest code, squared.
template <class V>
typename V::I square_code(typename V::F u) {
  const auto root = V::round(V::code_root(V::round(u)));
  return V::to_int(V::mul(root, root));  // in float32: integer products are slower
}

template <class V, Activation kActivation>
void activate_all(float* x, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + 16 <= count; i += 16) V::store(x + i, activate<V, kActivation>(V::load(x + i)));
  if (i < count) {
    V::store_n(x + i, activate<V, kActivation>(V::load_n(x + i, count - i)), count - i);
  }
}

template <class V>
void activate_array(Activation activation, float* x, std::int64_t count) {
  switch (activation) {
    case Activation::kNone:
      return;
    case Activation::kRelu:
      return activate_all<V, Activation::kRelu>(x, count);
    case Activation::kGelu:
      return activate_all<V, Activation::kGelu>(x, count);
    case Activation::kGeluTanh:
      return activate_all<V, Activation::kGeluTanh>(x, count);
    case Activation::kSilu:
      return activate_all<V, Activation::kSilu>(x, count);
    case Activation::kHardswish:
      return activate_all<V, Activation::kHardswish>(x, count);
  }
}

}  // namespace
}  // namespace repquant::ops
