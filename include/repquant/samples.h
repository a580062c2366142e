// Where the samples come from that a model is calibrated or measured on. No LibTorch types here.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "repquant/tokens.h"

namespace repquant {

/// Samples in a file or folder: images, arrays, saved tensors, token ids (docs/data.md).
struct DataPath {
  std::string path;
  TokenOptions tokens{};  // when it is a stream of token ids

  friend bool operator==(const DataPath&, const DataPath&) = default;
};

/// Seeded normal random numbers: for structure and speed only.
struct Synthetic {
  std::vector<std::int64_t> shape{};  // of one sample; empty: from the preprocessing preset

  friend bool operator==(const Synthetic&, const Synthetic&) = default;
};

/// An empty path is no source: what needs samples throws Error kUsage.
using SampleSource = std::variant<DataPath, Synthetic>;

}  // namespace repquant
