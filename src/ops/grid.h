// Grids by head and channel.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace repquant::ops {

/// A grid that broadcasts to [.., H, 1, d], spread out to [H, 1, d]: [1] and [H, 1, 1] go by head,
/// [d] by channel. `name`: of operator and argument, for messages. Throws c10::Error for a grid of
/// another type or shape.
at::Tensor spread_grid(const at::Tensor& grid, std::int64_t heads, std::int64_t depth,
                       at::ScalarType type, const char* name);

}  // namespace repquant::ops
