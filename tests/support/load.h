// Models loaded as calibration loads them: with the ranks of the data.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "graph/model.h"

namespace repquant::testing {

inline Model load_for(const std::string& path, const std::vector<at::Tensor>& inputs) {
  std::vector<GivenInput> given;
  for (const auto& input : inputs) given.push_back({.name = "", .rank = input.dim()});
  return load_model(path, inputs.size(), given);
}

}  // namespace repquant::testing
