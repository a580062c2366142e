#include "tensor/random_projection.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace repquant {

at::Tensor random_projection(std::int64_t rows, std::int64_t columns) {
  at::Tensor signs = at::empty({rows, columns}, at::kFloat);
  std::mt19937 engine(1);  // the same everywhere
  const float size = 1.0F / std::sqrt(static_cast<float>(columns));
  auto* sign = signs.mutable_data_ptr<float>();
  const std::int64_t count = signs.numel();
  for (std::int64_t i = 0; i < count;) {
    auto bits = static_cast<std::uint32_t>(engine());
    for (const std::int64_t end = std::min<std::int64_t>(i + 32, count); i < end;
         ++i, bits >>= 1U) {
      sign[i] = (bits & 1U) != 0 ? size : -size;
    }
  }
  return signs;
}

}  // namespace repquant
