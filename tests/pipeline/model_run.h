// Running a model on one tensor, and how far another output is from it.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "support/sqnr.h"

namespace repquant::testing {

inline void save_tensor(const at::Tensor& tensor, const std::filesystem::path& path) {
  const std::vector<char> bytes = torch::jit::pickle_save(tensor);
  std::ofstream(path, std::ios::binary).write(bytes.data(), std::ssize(bytes));
}

inline at::Tensor run(torch::jit::Module module, const at::Tensor& x) {
  at::NoGradGuard no_grad;
  return module.forward({x.clone()}).toTensor();
}

}  // namespace repquant::testing
