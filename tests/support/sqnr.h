// How far outputs are apart.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace repquant::testing {

/// The signal-to-noise ratio in dB, at most 300 below a signal of one where nothing differs.
inline double sqnr_db(const at::Tensor& expected, const at::Tensor& got) {
  const double noise = (expected - got).square().sum().item<double>();
  return 10 * std::log10(expected.square().sum().item<double>() / std::max(noise, 1e-30));
}

}  // namespace repquant::testing
