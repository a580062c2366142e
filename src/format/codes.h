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

/// What each nibble of packed codes stands for, int8 [16]: `levels` (int8 [2^bits]) where
/// pack_codes puts their numbers from -2^(bits - 1) on, the first and last level beside them.
/// Undefined levels are the codes -8 .. 7.
at::Tensor nibble_levels(const at::Tensor& levels);
/// What unpacked codes of up to 4 bits stand for by the `nibbles` of nibble_levels(), int8 [N, K].
at::Tensor look_up_levels(const at::Tensor& nibbles, const at::Tensor& codes);
/// The product codes of a Linear, int8 [N, K], from what pack_codes gave of K = `columns`:
/// unpacked, and up to 4 bits looked up.
at::Tensor unpack_levels(const at::Tensor& packed, int bits, std::int64_t columns,
                         const at::Tensor& nibbles);

}  // namespace repquant
