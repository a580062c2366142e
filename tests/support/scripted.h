// Small models from TorchScript source, with their sites found and proven.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "support/prepared.h"
#include "support/random.h"
#include "support/temp_dir.h"

namespace repquant::testing {

/// `body`: the lines of forward(self, x), which reads `constants` as attributes of self.
inline Prepared scripted(const std::string& body,
                         const std::map<std::string, at::Tensor>& constants,
                         std::vector<std::vector<at::Tensor>> batches) {
  torch::jit::Module module("Scripted");
  for (const auto& [name, tensor] : constants) module.register_parameter(name, tensor, false);
  module.define("def forward(self, x):\n" + body);
  module.eval();
  const TempDir folder;
  const std::string file = (folder.path() / "scripted.pt").string();
  module.save(file);
  return prepare(file, std::move(batches));
}

/// Parameters of a Linear, named w + name and b + name.
inline void add_linear(std::map<std::string, at::Tensor>& constants, const std::string& name,
                       std::int64_t outputs, std::int64_t inputs, std::uint64_t seed) {
  Random random(seed);
  constants["w" + name] = random.normal({outputs, inputs}) / std::sqrt(static_cast<double>(inputs));
  constants["b" + name] = random.normal({outputs}) * 0.1;
}

inline std::vector<std::vector<at::Tensor>> normal_batches(std::size_t batches,
                                                           std::vector<std::int64_t> sizes) {
  std::vector<std::vector<at::Tensor>> result;
  for (std::size_t i = 0; i < batches; ++i) result.push_back({Random(100 + i).normal(sizes)});
  return result;
}

}  // namespace repquant::testing
