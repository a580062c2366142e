// Random variations of images, for learning.
#pragma once

#include <ATen/core/Tensor.h>

#include <random>

namespace repquant {

/// A random crop of each image [B, C, H, W], float32, brought back to its size (bilinear),
/// reflected half of the times. Crops hold half to all of the area and keep the aspect ratio
/// within 1.3.
at::Tensor vary_images(const at::Tensor& images, std::mt19937_64& engine);

}  // namespace repquant
