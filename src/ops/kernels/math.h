// Elementwise functions on 16 lanes. Polynomials are least-squares fits at Chebyshev points, made
// for these kernels; the errors named are the largest over the range, in float32.
#pragma once

#include "ops/kernels/kernels.h"

namespace repquant::ops {
namespace {

/// 2^x to 2 units in the last place, for -126 <= x <= 126 (clamped).
template <class V>
typename V::F exp2(typename V::F x) {
  x = V::min(V::max(x, V::set(-126.0F)), V::set(126.0F));
  const auto whole = V::round(x);
  const auto t = V::sub(x, whole);
  auto p = V::set(1.546973217e-04F);
  for (const float c : {1.340043265e-03F, 9.618025273e-03F, 5.550327152e-02F, 2.402265072e-01F,
                        6.931471825e-01F, 1.0F}) {
    p = V::fma(p, t, V::set(c));
  }
  return V::scale_exponent(p, V::to_int(whole));
}

/// x Phi(x) to 5e-7. Phi(x) - 1/2 is x times a polynomial in x^2 up to |x| = 5.5, constant beyond.
template <class V>
typename V::F gelu(typename V::F x) {
  constexpr float kRange = 5.5F;
  const auto bounded = V::max(x, V::set(-kRange));
  const auto c = V::min(bounded, V::set(kRange));
  const auto u = V::fma(V::mul(c, c), V::set(2.0F / (kRange * kRange)), V::set(-1.0F));
  auto p = V::set(1.180799954e-04F);
  for (const float a : {-2.856763313e-04F, 1.839166653e-04F, -3.567546082e-04F, 1.407426433e-03F,
                        -2.658702433e-03F, 4.074129742e-03F, -6.650678348e-03F, 1.046863664e-02F,
                        -1.506252401e-02F, 2.030731738e-02F, -2.603615075e-02F, 3.207691014e-02F,
                        -3.879379481e-02F, 4.773733392e-02F, -6.417231262e-02F, 1.285519302e-01F}) {
    p = V::fma(p, u, V::set(a));
  }
  return V::mul(V::fma(p, c, V::set(0.5F)), bounded);
}

/// x / (1 + exp(-s x)) with s log2(e) given.
template <class V>
typename V::F sigmoid_times(typename V::F x, typename V::F scaled) {
  return V::div(x, V::add(V::set(1.0F), exp2<V>(V::sub(V::set(0.0F), scaled))));
}

/// x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, which is x sigmoid(2 sqrt(2 / pi) (..)).
template <class V>
typename V::F gelu_tanh(typename V::F x) {
  constexpr float kScale = 2.0F * 0.7978845608F * 1.4426950409F;
  const auto cubic =
      V::fma(V::mul(V::mul(x, x), V::set(0.044715F * kScale)), x, V::mul(x, V::set(kScale)));
  return sigmoid_times<V>(x, cubic);
}

template <class V, Activation kActivation>
typename V::F activate(typename V::F x) {
  if constexpr (kActivation == Activation::kRelu) return V::max(x, V::set(0.0F));
  if constexpr (kActivation == Activation::kGelu) return gelu<V>(x);
  if constexpr (kActivation == Activation::kGeluTanh) return gelu_tanh<V>(x);
  if constexpr (kActivation == Activation::kSilu) {
    return sigmoid_times<V>(x, V::mul(x, V::set(1.4426950409F)));
  }
  return x;
}

/// clamp(round(x m + a), 0, top), in two roundings as the portable form has it.
template <class V>
typename V::F grid_code(typename V::F x, typename V::F m, typename V::F a, typename V::F top) {
  const auto u = V::round(V::add(V::mul(x, m), a));
  return V::min(V::max(u, V::set(0.0F)), top);
}

/// round(sqrt(u))^2 of integers u in [0, 255]: the quadratic grid's nearest code, squared.
template <class V>
typename V::I square_code(typename V::F u) {
  const auto root = V::round(V::code_root(u));
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
  }
}

}  // namespace
}  // namespace repquant::ops
