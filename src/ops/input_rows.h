// Codes as the products read them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace repquant::ops {

/// Input codes uint8 [.., columns] as [rows, 4 quads], zero-padded. `op` is named where they are
/// not.
at::Tensor input_rows(const char* op, const at::Tensor& codes, std::int64_t columns,
                      std::int64_t quads);

}  // namespace repquant::ops
