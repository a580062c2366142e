// Random variations of images: more calibration data.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <random>
#include <vector>

#include "sweep/hold_back.h"

namespace repquant {

/// A random crop of each image [B, C, H, W], float32, brought back to its size (bilinear),
/// reflected half of the times. Crops hold half to all of the area and keep the aspect ratio
/// within 1.3.
at::Tensor augment_images(const at::Tensor& images, std::mt19937_64& engine);

/// The inputs of a batch with its images (float32, four axes) augmented, all else as it is.
std::vector<at::Tensor> augment_inputs(const std::vector<at::Tensor>& inputs,
                                       std::mt19937_64& engine);

/// The batches, followed by `variations` augmented copies of all of them.
Batches with_variations(const Batches& batches, int variations, std::uint64_t seed);

}  // namespace repquant
