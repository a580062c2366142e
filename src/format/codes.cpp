#include "format/codes.h"

#include <ATen/ATen.h>

namespace repquant {
namespace {

/// The inverse of pack_codes.
at::Tensor unpack_codes(const at::Tensor& packed, int bits, std::int64_t columns) {
  if (bits > 4) return packed;
  const at::Tensor wide = packed.to(at::kInt);
  const at::Tensor pairs = at::stack({wide.bitwise_and(15), wide.div(16, "floor")}, -1).flatten(1);
  return (pairs.narrow(1, 0, columns) - 8).to(at::kChar).contiguous();
}

}  // namespace

at::Tensor pack_codes(const at::Tensor& codes, int bits) {
  if (bits > 4) return codes.detach().clone(at::MemoryFormat::Contiguous);
  at::Tensor shifted = codes.to(at::kInt) + 8;
  if (codes.size(1) % 2 != 0) shifted = at::constant_pad_nd(shifted, {0, 1}, 8);
  const at::Tensor low = shifted.slice(1, 0, c10::nullopt, 2);
  const at::Tensor high = shifted.slice(1, 1, c10::nullopt, 2);
  return (low + high * 16).to(at::kByte).contiguous();
}

at::Tensor nibble_levels(const at::Tensor& levels) {
  const at::Tensor all = at::arange(-8, 8, at::kChar);
  if (!levels.defined()) return all;
  const std::int64_t count = levels.numel();
  return levels.index_select(0, (all.to(at::kLong) + count / 2).clamp_(0, count - 1));
}

at::Tensor look_up_levels(const at::Tensor& nibbles, const at::Tensor& codes) {
  return nibbles.index_select(0, codes.flatten().to(at::kLong) + 8).view_as(codes);
}

at::Tensor unpack_levels(const at::Tensor& packed, int bits, std::int64_t columns,
                         const at::Tensor& nibbles) {
  const at::Tensor codes = unpack_codes(packed, bits, columns);
  return bits > 4 ? codes : look_up_levels(nibbles, codes);
}

}  // namespace repquant
