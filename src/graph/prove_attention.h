// What attention products are, seen by running: which axis is the heads, and whether the rows of a
// softmax reach their product whole.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "graph/model.h"
#include "graph/site.h"
#include "graph/walker.h"

namespace repquant {

/// Sets `heads`, `channels` and `columns` of the attention products, and removes those kAttend
/// sites whose softmax does not reach them row by row (transposed, cut or joined on the way), with
/// the reason in `search.skipped`: they are computed from scores, so the softmax must be over what
/// they sum over. inputs: one sample batch, each [B, ...].
void prove_attention(const Model& model, const Schedule& schedule, SiteSearch& search,
                     const std::vector<at::Tensor>& inputs);

}  // namespace repquant
