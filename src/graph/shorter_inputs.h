// Inputs of another length or size, to see what of a model depends on it.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

namespace repquant {

struct ShorterInputs {
  std::string shape;  // in words
  std::vector<at::Tensor> inputs;
};

/// Tokens cut to two thirds of their length, images to half their sides; nothing if the inputs have
/// neither, or something beside images. Not every model takes them.
std::optional<ShorterInputs> shorter_inputs(const std::vector<at::Tensor>& batch);

}  // namespace repquant
