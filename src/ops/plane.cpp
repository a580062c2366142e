#include "ops/plane.h"

#include <ATen/ATen.h>

namespace repquant::ops {
namespace {

constexpr std::int64_t kMostStep = 1 << 16;

}  // namespace

Plane plane_of(const char* name, const at::Tensor& x, at::IntArrayRef before, at::IntArrayRef after,
               at::IntArrayRef kernel, at::IntArrayRef stride, at::IntArrayRef dilation) {
  const std::size_t n = kernel.size();
  TORCH_CHECK((n == 1 || n == 2) && before.size() == n && after.size() == n && stride.size() == n &&
                  dilation.size() == n && x.dim() == static_cast<std::int64_t>(n) + 2,
              name, ": needs [B, sizes.., C] and numbers for each of 1 or 2 dimensions");
  Plane plane;
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t d = i + 2 - n;
    for (const auto& list : {before, after, kernel, stride, dilation}) {
      TORCH_CHECK(list[i] >= 0 && list[i] <= kMostStep, name, ": no such window");
    }
    TORCH_CHECK(kernel[i] > 0 && stride[i] > 0 && dilation[i] > 0, name, ": no such window");
    plane.size[d] = x.size(static_cast<std::int64_t>(i) + 1);
    plane.before[d] = before[i];
    plane.after[d] = after[i];
    plane.kernel[d] = kernel[i];
    plane.stride[d] = stride[i];
    plane.dilation[d] = dilation[i];
    const std::int64_t reach = dilation[i] * (kernel[i] - 1) + 1;
    const std::int64_t room = plane.size[d] + before[i] + after[i] - reach;
    TORCH_CHECK(room >= 0, name, ": the input is smaller than a window");
    plane.grid[d] = room / stride[i] + 1;
  }
  return plane;
}

std::vector<std::int64_t> grid_sizes(const Plane& plane, const at::Tensor& x, std::int64_t last) {
  std::vector<std::int64_t> sizes{x.size(0)};
  if (x.dim() == 4) sizes.push_back(plane.grid[0]);
  sizes.insert(sizes.end(), {plane.grid[1], last});
  return sizes;
}

}  // namespace repquant::ops
