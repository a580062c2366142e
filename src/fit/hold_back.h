// Calibration samples that nothing is fitted on, to judge by.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "tensor/samples.h"

namespace repquant {

struct HeldBack {
  Batches fitted;
  Batches held_back;
};

/// The last `count` samples apart from the others; whole batches where a batch cannot be split. At
/// least one batch is left to be fitted.
HeldBack hold_back_samples(const Batches& batches, std::int64_t count);

/// About `count` samples, as many of each batch as of any other; none of some where `count` is
/// smaller than the number of batches. Whole batches where a batch cannot be split.
Batches spread_samples(const Batches& batches, std::int64_t count);

/// Samples in all batches together.
std::int64_t sample_count(const Batches& batches);

}  // namespace repquant
