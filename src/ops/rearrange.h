// Tensors in another order in memory.
#pragma once

#include <ATen/core/Tensor.h>

namespace repquant::ops {

/// x.contiguous(), with an output of ours (new_output()) where that is a copy.
at::Tensor in_order(const at::Tensor& x);

}  // namespace repquant::ops
