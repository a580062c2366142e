// int8 operands of an attention on a scale of each row's own.
#pragma once

#include "ops/kernels/kernels.h"
#include "ops/kernels/norm.h"

namespace repquant::ops {
namespace {

/// max|x| over a row of `width`; NaN if a value is not finite.
template <class V>
float largest_magnitude(const float* x, std::int64_t width) {
  const auto zero = V::set(0.0F);
  auto most = zero, bad = zero;
  over_lanes(width, [&](std::int64_t i, std::int64_t n) {
    const auto v = load_lanes<V>(x + i, n);  // lanes beyond the row hold 0
    most = V::max(most, V::max(v, V::sub(zero, v)));
    bad = V::fma(v, zero, bad);
  });
  return V::largest(most) + V::sum(bad);
}

template <class V>
void quantize_operand_rows(const OperandRowsArgs& args, std::int64_t row_begin,
                           std::int64_t row_end) {
  constexpr float kSmallest = 1.1754943508222875e-38F;  // normal
  const auto top = V::set(static_cast<float>(args.top)), one = V::set(1.0F), half = V::set(0.5F),
             two = V::set(2.0F), lowest = V::set(-static_cast<float>(args.top));
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const std::int64_t block = row / args.tokens;
    const float* x = args.x + block / args.heads * args.strides.batch +
                     block % args.heads * args.strides.head + row % args.tokens * args.strides.row;
    const float range = largest_magnitude<V>(x, args.width) / static_cast<float>(args.top);
    const float scale = range < kSmallest ? kSmallest : range;
    args.scale[row] = scale;
    const auto inverse = V::set(1.0F / scale);
    auto* codes = reinterpret_cast<std::uint8_t*>(args.codes + row * args.width);
    over_lanes(args.width, [&](std::int64_t i, std::int64_t n) {
      auto y = V::mul(load_lanes<V>(x + i, n), inverse);
      if (args.odd) {
        y = V::add(V::mul(V::round(V::mul(V::sub(y, one), half)), two), one);
      } else {
        y = V::round(y);
      }
      store_code_lanes<V>(codes + i, V::to_int(V::min(V::max(y, lowest), top)), n);
    });
  }
}

}  // namespace
}  // namespace repquant::ops
