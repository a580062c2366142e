// Seeded random tensors for tests: the same values with every standard library and LibTorch.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace repquant::testing {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  /// In [0, 1).
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1.0p-53; }

  /// Standard normal (Box and Muller).
  double normal() {
    constexpr double kTwoPi = 6.283185307179586;
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    return radius * std::cos(kTwoPi * uniform());
  }

  at::Tensor normal(std::vector<std::int64_t> sizes) {
    const at::Tensor values = at::empty(sizes, at::kFloat);
    auto* data = values.data_ptr<float>();
    for (std::int64_t i = 0; i < values.numel(); ++i) data[i] = static_cast<float>(normal());
    return values;
  }

  at::Tensor uniform(std::vector<std::int64_t> sizes, double low, double high) {
    const at::Tensor values = at::empty(sizes, at::kFloat);
    auto* data = values.data_ptr<float>();
    for (std::int64_t i = 0; i < values.numel(); ++i) {
      data[i] = static_cast<float>(low + (high - low) * uniform());
    }
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace repquant::testing
