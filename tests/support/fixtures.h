// The fixture models of tests/fixtures (made by make_models.py): small seeded TorchScript files
// with inputs, PyTorch's outputs and what repquant is expected to find in them.
#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/arrays.h"

#include "support/paths.h"

namespace repquant::testing {

inline std::filesystem::path fixture_dir() { return source_dir() / "tests/fixtures/models"; }

inline nlohmann::json fixture_manifest() {
  std::ifstream file(fixture_dir() / "manifest.json");
  return nlohmann::json::parse(file).at("models");
}

inline nlohmann::json fixture_entry(const std::string& name) {
  for (const auto& entry : fixture_manifest()) {
    if (entry.at("name") == name) return entry;
  }
  throw std::runtime_error("no fixture " + name);
}

/// `form`: trace, script, trace_frozen or script_frozen.
inline std::string fixture_path(const std::string& name, const std::string& form) {
  return (fixture_dir() / (name + "." + form + ".pt")).string();
}

struct FixtureData {
  std::vector<at::Tensor> inputs, outputs;
};

inline FixtureData fixture_data(const std::string& name) {
  const auto arrays = read_npz(fixture_dir() / (name + ".npz"));
  FixtureData data;
  for (const std::string prefix : {"input_", "output_"}) {
    auto& list = prefix == "input_" ? data.inputs : data.outputs;
    for (std::size_t k = 0;; ++k) {
      bool found = false;
      for (std::size_t i = 0; i < arrays.names.size(); ++i) {
        if (arrays.names[i] != prefix + std::to_string(k)) continue;
        list.push_back(arrays.tensors[i].clone());
        found = true;
      }
      if (!found) break;
    }
  }
  return data;
}

}  // namespace repquant::testing
