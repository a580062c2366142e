// Helpers of the operator library's tests.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "ops/operators.h"

namespace repquant::testing {

/// Uses an instruction set until the end of the scope.
class LevelScope {
 public:
  explicit LevelScope(const std::string& level);
  ~LevelScope();
  LevelScope(const LevelScope&) = delete;
  LevelScope& operator=(const LevelScope&) = delete;

 private:
  std::string before_;
};

struct PackedWeight {
  at::Tensor weight, sums;
};

/// int8 codes [N, K] as repquant::linear reads them; up to 4 bits they may stand for `levels`.
PackedWeight pack(const at::Tensor& codes, int bits, const ops::OptionalTensor& levels = {});

/// A vector over channels, padded with zeros to whole panels.
at::Tensor padded(const at::Tensor& vector);

at::Tensor random_codes(std::int64_t low, std::int64_t high, at::IntArrayRef sizes,
                        at::ScalarType type);

/// Numbers of codes that differ, and the largest difference.
struct CodeDifference {
  std::int64_t count = 0, largest = 0;
};
CodeDifference difference(const at::Tensor& a, const at::Tensor& b);

}  // namespace repquant::testing
