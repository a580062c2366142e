// Random projections, which keep squared lengths on average.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace repquant {

/// Columns of a projection that stands for a sum of squares over hundreds of values and more.
constexpr std::int64_t kProjections = 256;

/// Whether estimates by projections decide between codes of so many bits as well as sums over so
/// many values do: such codes are close to each other, and fewer values are added up as quickly.
constexpr bool projections_suffice(int bits, std::int64_t values) {
  constexpr int kLeastBits = 7;
  return bits >= kLeastBits && values > kProjections;
}

/// Random signs over sqrt(columns), float32 [rows, columns], the same on every machine: for x
/// [rows], |x projection|^2 is |x|^2 on average (Johnson-Lindenstrauss; Achlioptas 2003).
at::Tensor random_projection(std::int64_t rows, std::int64_t columns);

}  // namespace repquant
