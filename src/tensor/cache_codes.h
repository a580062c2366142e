// Keys and values of a decoder as codes (ops/cache.cpp). The operators are looked up by name: a
// program that uses them has to be linked with repquant_ops.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace repquant {

inline constexpr const char* kCacheQuantizeOp = "repquant::cache_quantize";
inline constexpr const char* kCacheDequantizeOp = "repquant::cache_dequantize";

/// Bytes of the grid behind each row of codes.
inline constexpr std::int64_t kCacheGridBytes = 8;

/// float [.., d] -> uint8 [.., d + 8].
at::Tensor cache_codes(const at::Tensor& values);

/// uint8 [.., d + 8] -> float32 [.., d].
at::Tensor cache_values(const at::Tensor& codes);

}  // namespace repquant
