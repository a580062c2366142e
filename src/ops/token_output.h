// What an operator with grids per token gives, and the arguments for the kernel that several share.
#pragma once

#include <ATen/ATen.h>

#include "ops/kernels/kernels.h"
#include "ops/operators.h"
#include "ops/output.h"

namespace repquant::ops {

/// True if the kernel can scale `width` channels by these: vectors, or none.
inline bool scales_channels(std::int64_t width, const OptionalTensor& multiplier,
                            const OptionalTensor& offset) {
  const auto fits = [width](const OptionalTensor& given) {
    return !given || (given->dim() == 1 && given->numel() == width && given->is_contiguous() &&
                      given->scalar_type() == at::kFloat);
  };
  return fits(multiplier) && fits(offset);
}

inline void check_scale(const char* op, std::int64_t width, const OptionalTensor& multiplier,
                        const OptionalTensor& offset) {
  TORCH_CHECK(multiplier || !offset, op, ": an offset without a multiplier");
  TORCH_CHECK(scales_channels(width, multiplier, offset), op,
              ": multiplier and offset must be float32 [", width, "]");
}

/// The tensors stay with the caller.
inline void set_scale(TokenArgs& args, const OptionalTensor& multiplier,
                      const OptionalTensor& offset) {
  if (multiplier) args.multiplier = multiplier->const_data_ptr<float>();
  if (offset) args.offset = offset->const_data_ptr<float>();
}

inline void check_top(std::int64_t top) {
  TORCH_CHECK(top >= 1 && top <= 255, "repquant::token_quantize: codes up to ", top,
              " are not of 8 bits");
}

/// Levels as the kernel reads them.
inline at::Tensor checked_levels(const at::Tensor& levels, std::int64_t top) {
  TORCH_CHECK(levels.scalar_type() == at::kByte && levels.dim() == 1 && levels.numel() > 0 &&
                  levels.numel() <= 256 && top == 255,
              "repquant::token_quantize: levels must be uint8 [n] of codes up to 255");
  return levels.contiguous();
}

struct TokenOutput {
  at::Tensor codes;   // uint8 [.., width]
  at::Tensor rows;    // float32 [.., 2]
  at::Tensor levels;  // kept alive

  /// `sizes`: of what is quantized, but for its last dimension, which is `width`. Checks `top` and
  /// `levels`; sets the outputs, width, top and levels of `args`.
  TokenOutput(at::IntArrayRef sizes, std::int64_t width, std::int64_t top,
              const OptionalTensor& codebook, TokenArgs& args) {
    check_top(top);
    auto shape = sizes.vec();
    shape.back() = width;
    codes = new_output(shape, at::kByte);
    shape.back() = 2;
    rows = new_output(shape, at::kFloat);
    if (codebook) {
      levels = checked_levels(*codebook, top);
      args.levels = levels.const_data_ptr<std::uint8_t>();
      args.level_count = static_cast<int>(levels.numel());
    }
    args.codes = codes.mutable_data_ptr<std::uint8_t>();
    args.rows = rows.mutable_data_ptr<float>();
    args.width = width;
    args.top = static_cast<int>(top);
  }
};

}  // namespace repquant::ops
