// Models as files with data to quantize them on, and running one on a tensor.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "repquant/quantize.h"
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

/// The model and calibration data as files in `folder`, to be quantized into it.
inline QuantizeOptions saved_options(const std::filesystem::path& folder,
                                     const torch::jit::Module& model, const at::Tensor& calib) {
  QuantizeOptions options;
  options.model = (folder / "model.pt").string();
  model.save(options.model);
  save_tensor(calib, folder / "calib.pt");
  options.calib = DataPath{(folder / "calib.pt").string()};
  options.output = (folder / "out.pt").string();
  return options;
}

}  // namespace repquant::testing
