// Samples as a decoder meets them that keeps keys and values: later tokens, with a past.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace repquant {

using RunInputs = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>&)>;

/// The tokens of `batch` from `begin` on, with the keys and values that `run` gives back for those
/// before. Nothing unless the batch is tokens [B, T], T > `begin` > 0, and behind them only empty
/// tensors that as many last outputs continue.
std::optional<std::vector<at::Tensor>> after_tokens(const std::vector<at::Tensor>& batch,
                                                    std::int64_t begin, const RunInputs& run);

}  // namespace repquant
