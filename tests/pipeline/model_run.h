// Running a model on one tensor, and how far another output is from it.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <vector>

namespace repquant::testing {

inline void save_tensor(const at::Tensor& tensor, const std::filesystem::path& path) {
  const std::vector<char> bytes = torch::jit::pickle_save(tensor);
  std::ofstream(path, std::ios::binary).write(bytes.data(), std::ssize(bytes));
}

inline at::Tensor run(torch::jit::Module module, const at::Tensor& x) {
  at::NoGradGuard no_grad;
  return module.forward({x.clone()}).toTensor();
}

inline double sqnr_db(const at::Tensor& expected, const at::Tensor& got) {
  const double noise = (expected - got).square().sum().item<double>();
  return 10 * std::log10(expected.square().sum().item<double>() / std::max(noise, 1e-30));
}

}  // namespace repquant::testing
