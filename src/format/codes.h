// How an artifact stores codes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace repquant {

/// What a Linear writes.
enum class LinearOutput {
  kFloat = 0,         // float32, after the activation function
  kOperandCodes = 1,  // int8 codes of attention operands; per-channel grids live in scale and bias
  kProductCodes = 2,  // uint8 codes of the next Linear's input (squared for the quadratic form)
};

/// What a Linear computes before its output grid.
enum class LinearActivation { kNone, kRelu, kGelu, kGeluTanh };

/// Weight codes as stored: two per byte (low nibble first, code + 8) up to 4 bits, uint8
/// [N, ceil(K / 2)]; plain int8 [N, K] above.
at::Tensor pack_codes(const at::Tensor& codes, int bits);
/// The inverse of pack_codes; `columns` is K.
at::Tensor unpack_codes(const at::Tensor& packed, int bits, std::int64_t columns);

}  // namespace repquant
