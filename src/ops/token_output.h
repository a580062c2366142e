// What an operator with grids per token gives, and its arguments for the kernel.
#pragma once

#include <ATen/ATen.h>

#include "ops/kernels/kernels.h"
#include "ops/operators.h"
#include "ops/output.h"

namespace repquant::ops {

struct TokenOutput {
  at::Tensor codes;   // uint8 [.., width]
  at::Tensor rows;    // float32 [.., 2]
  at::Tensor levels;  // kept alive

  /// `sizes`: of what is quantized, but for its last dimension, which is `width`. Checks `top` and
  /// `levels`; sets the outputs, width, top and levels of `args`.
  TokenOutput(at::IntArrayRef sizes, std::int64_t width, std::int64_t top,
              const OptionalTensor& codebook, TokenArgs& args) {
    TORCH_CHECK(top >= 1 && top <= 255, "repquant::token_quantize: codes up to ", top,
                " are not of 8 bits");
    auto shape = sizes.vec();
    shape.back() = width;
    codes = new_output(shape, at::kByte);
    shape.back() = 2;
    rows = new_output(shape, at::kFloat);
    if (codebook) {
      TORCH_CHECK(codebook->scalar_type() == at::kByte && codebook->dim() == 1 &&
                      codebook->numel() > 0 && codebook->numel() <= 256 && top == 255,
                  "repquant::token_quantize: levels must be uint8 [n] of codes up to 255");
      levels = codebook->contiguous();
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
