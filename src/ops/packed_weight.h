// What products with packed weights check of their arguments.
#pragma once

#include <ATen/ATen.h>

#include <optional>

#include "ops/kernels/kernels.h"
#include "ops/kernels/pack.h"

namespace repquant::ops {

/// Channels in whole panels.
inline std::int64_t padded(std::int64_t channels) {
  return (channels + kPanel - 1) / kPanel * kPanel;
}

/// Narrowed to int or multiplied by others.
inline void check_counts(std::int64_t channels, std::int64_t columns, std::int64_t bits,
                         const char* name = "linear") {
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  TORCH_CHECK(bits >= 1 && bits <= 8 && channels >= 0 && channels <= kMost && columns >= 1 &&
                  columns <= kMost,
              "repquant::", name, ": no weight has ", bits, " bits, ", channels, " channels and ",
              columns, " columns");
}

/// What the nibbles of a weight stand for, int8 [16]: `levels`, or -8 .. 7. Undefined for bytes.
inline at::Tensor nibble_table(const std::optional<at::Tensor>& levels, bool nibbles,
                               const char* name) {
  constexpr std::int64_t kNibbles = 16;
  TORCH_CHECK(!levels || (nibbles && levels->scalar_type() == at::kChar && levels->dim() == 1 &&
                          levels->numel() == kNibbles),
              "repquant::", name, ": levels are int8 [16], of weights of up to 4 bits");
  if (!nibbles) return {};
  return levels ? levels->contiguous() : at::arange(-8, 8, at::kChar);
}

inline std::int64_t packed_bytes(std::int64_t channels, std::int64_t columns, bool nibbles) {
  const std::int64_t panel = panel_bytes(packed_groups(columns, nibbles), nibbles);
  return (nibbles ? kLevelBytes : 0) + padded(channels) / kPanel * panel;
}

/// As many weights of this shape one after the other, each packed by itself.
inline void check_weight(const at::Tensor& weight, std::int64_t weights, std::int64_t channels,
                         std::int64_t columns, std::int64_t bits, const char* name = "linear") {
  TORCH_CHECK(weight.scalar_type() == at::kByte && weight.is_contiguous() &&
                  weight.numel() == weights * packed_bytes(channels, columns, bits <= 4),
              "repquant::", name, ": the weight was not packed for ", channels, " channels, ",
              columns, " columns and ", bits, " bits");
}

/// The first of these weights; needs channels, columns and bits to be checked. `args`: of a kernel
/// that reads it.
template <class Args>
void set_weight(Args& args, const at::Tensor& weight, std::int64_t bits) {
  const auto* packed = weight.const_data_ptr<std::uint8_t>();
  const bool nibbles = bits <= 4;
  args.levels = nibbles ? reinterpret_cast<const std::int8_t*>(packed) : nullptr;
  args.weight = packed + (nibbles ? kLevelBytes : 0);
}

inline void check_vector(const at::Tensor& vector, at::ScalarType type, std::int64_t elements,
                         const char* name, const char* op = "linear") {
  TORCH_CHECK(vector.scalar_type() == type && vector.is_contiguous() && vector.numel() == elements,
              "repquant::", op, ": ", name, " must be a contiguous ", type, " vector of ", elements,
              " elements, got ", vector.scalar_type(), " ", vector.sizes());
}

}  // namespace repquant::ops
