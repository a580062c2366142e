#include "ops/input_rows.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "ops/output.h"
#include "ops/rearrange.h"

namespace repquant::ops {

at::Tensor input_rows(const char* op, const at::Tensor& codes, std::int64_t columns,
                      std::int64_t quads) {
  TORCH_CHECK(codes.scalar_type() == at::kByte && codes.dim() >= 1 && codes.size(-1) == columns, op,
              ": codes must be uint8 [.., ", columns, "], got ", codes.scalar_type(), " ",
              codes.sizes());
  at::Tensor rows = in_order(codes).view({-1, columns});
  const std::int64_t width = 4 * quads, rest = width - columns;
  if (rest == 0) return rows;
  const std::int64_t count = rows.size(0);
  at::Tensor padded_rows = new_output({count, width}, at::kByte);
  const auto* from = rows.const_data_ptr<std::uint8_t>();
  auto* to = padded_rows.mutable_data_ptr<std::uint8_t>();
  // Steps of a fixed size are not calls; what they write too much, the next row writes over.
  constexpr std::int64_t kStep = 16;
  const std::int64_t reach = (columns + kStep - 1) / kStep * kStep;
  for (std::int64_t row = 0; row < count; ++row, from += columns, to += width) {
    if ((count - row) * columns >= reach) {
      for (std::int64_t k = 0; k < columns; k += kStep) std::copy_n(from + k, kStep, to + k);
    } else {
      std::copy_n(from, columns, to);
    }
    std::fill_n(to + columns, rest, std::uint8_t{0});
  }
  return padded_rows;
}

}  // namespace repquant::ops
