// Keys and values of a decoder as codes (ops/cache.cpp). The operators are looked up by name: a
// program that uses them has to be linked with repquant_ops.
#pragma once

#include <ATen/core/Tensor.h>

namespace repquant {

inline constexpr const char* kCacheQuantizeOp = "repquant::cache_quantize";
inline constexpr const char* kCacheDequantizeOp = "repquant::cache_dequantize";

/// float [.., d] -> uint8 [.., d + 8].
at::Tensor cache_codes(const at::Tensor& values);

/// uint8 [.., d + 8] -> float32 [.., d].
at::Tensor cache_values(const at::Tensor& codes);

}  // namespace repquant
