// Finds tensors that hold the same numbers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace repquant {

/// True for tensors of the same type and shape with the same values, NaN in the same places.
bool same_values(const at::Tensor& a, const at::Tensor& b);

/// Keeps one tensor of each content.
class EqualTensors {
 public:
  /// The tensor of this type, shape and content that came first: `tensor` itself if none did. Reads
  /// all values once, and those of a candidate with the same sum.
  at::Tensor first_of(const at::Tensor& tensor);

 private:
  /// By shape and the bits of the sum: a sum that is NaN has no place in an order of numbers.
  std::map<std::pair<std::vector<std::int64_t>, std::uint64_t>, std::vector<at::Tensor>> kept_;
};

}  // namespace repquant
