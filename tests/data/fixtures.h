// The committed fixtures of the data room (made by make_fixtures.py).
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "data/arrays.h"
#include "data/image.h"
#include "support/paths.h"

namespace repquant::testing {

inline std::filesystem::path fixture(const std::string& name) {
  return source_dir() / "tests/data/fixtures" / name;
}

/// Files of a fixture folder with this extension, sorted.
inline std::vector<std::filesystem::path> fixture_files(const std::string& folder,
                                                        const std::string& extension = {}) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(fixture(folder))) {
    if (extension.empty() || entry.path().extension() == extension) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// Largest difference in levels between an image and PIL's, [height, width, 3] uint8.
inline int largest_difference(const Image& image, const at::Tensor& expected) {
  EXPECT_EQ(expected.scalar_type(), at::kByte);
  EXPECT_EQ(expected.sizes(), (at::IntArrayRef{image.height, image.width, 3}));
  if (expected.numel() != static_cast<std::int64_t>(image.pixels.size())) return 256;
  const at::Tensor flat = expected.contiguous();
  const std::span<const std::uint8_t> pixels(flat.const_data_ptr<std::uint8_t>(),
                                             image.pixels.size());
  int largest = 0;
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    largest = std::max(largest, std::abs(int{image.pixels[i]} - int{pixels[i]}));
  }
  return largest;
}

}  // namespace repquant::testing
