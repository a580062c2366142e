#include "quantizer/sample_rows.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "tensor/check.h"

namespace repquant {
namespace {

constexpr std::int64_t kParts = 65536;

/// Where in a group its place lies, of kParts: by the golden ratio, places of neighbours are far
/// apart, and no period comes back.
std::int64_t part_of(std::int64_t group) {
  constexpr std::int64_t kGoldenRatio = 40503;
  return group * kGoldenRatio % kParts;
}

}  // namespace

std::int64_t place_in(std::int64_t group, std::int64_t stride, std::int64_t rows) {
  return std::min(group * stride + part_of(group) * stride / kParts, rows - 1);
}

at::Tensor sample_rows(const at::Tensor& x, std::int64_t max_rows, const at::Tensor& weights) {
  require(max_rows > 0, "sample_rows", "a positive number of rows");
  const std::int64_t rows = x.size(0);
  at::Tensor index;
  if (weights.defined()) {
    require(weights.dim() == 1 && weights.size(0) == rows, "sample_rows", "a weight per row");
    const at::Tensor total = weights.to(at::kDouble).cumsum(0);
    at::Tensor places = at::empty({max_rows}, at::kDouble);
    auto* place = places.mutable_data_ptr<double>();
    for (std::int64_t i = 0; i < max_rows; ++i) {
      place[i] = static_cast<double>(i) + (static_cast<double>(part_of(i)) + 0.5) / kParts;
    }
    places.mul_(total[-1] / static_cast<double>(max_rows));
    index = at::searchsorted(total, places).clamp_max_(rows - 1);
  } else {
    const std::int64_t stride = (rows + max_rows - 1) / max_rows;
    if (stride <= 1) return x.to(at::kFloat).contiguous();
    index = at::empty({(rows + stride - 1) / stride}, at::kLong);
    auto* place = index.mutable_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < index.size(0); ++i) place[i] = place_in(i, stride, rows);
  }
  return x.index_select(0, index).to(at::kFloat).contiguous();
}

}  // namespace repquant
