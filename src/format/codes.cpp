#include "format/codes.h"

#include <ATen/ATen.h>

namespace repquant {

at::Tensor pack_codes(const at::Tensor& codes, int bits) {
  if (bits > 4) return codes.detach().clone(at::MemoryFormat::Contiguous);
  at::Tensor shifted = codes.to(at::kInt) + 8;
  if (codes.size(1) % 2 != 0) shifted = at::constant_pad_nd(shifted, {0, 1}, 8);
  const at::Tensor low = shifted.slice(1, 0, c10::nullopt, 2);
  const at::Tensor high = shifted.slice(1, 1, c10::nullopt, 2);
  return (low + high * 16).to(at::kByte).contiguous();
}

at::Tensor unpack_codes(const at::Tensor& packed, int bits, std::int64_t columns) {
  if (bits > 4) return packed;
  const at::Tensor wide = packed.to(at::kInt);
  const at::Tensor pairs = at::stack({wide.bitwise_and(15), wide.div(16, "floor")}, -1).flatten(1);
  return (pairs.narrow(1, 0, columns) - 8).to(at::kChar).contiguous();
}

}  // namespace repquant
