// The windows of a convolution and the patches of an image as rows: what pad, unfold, permute and
// flatten give, copied in runs of channels or pixels instead of through strided views.
#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

#include "ops/operators.h"
#include "ops/output.h"
#include "ops/parallel.h"
#include "ops/plane.h"

namespace repquant::ops {
namespace {

constexpr std::int64_t kGrain = 1 << 16;  // bytes that one thread should write at least

/// Copies the row of pixels that one window row needs; `source` is null where it lies outside.
void copy_pixels(const Plane& plane, const char* source, const char* zeros, std::int64_t first,
                 std::int64_t pixel, char*& out) {
  const std::int64_t count = plane.kernel[1], step = plane.dilation[1], width = plane.size[1];
  if (source != nullptr && step == 1 && first >= 0 && first + count <= width) {
    std::memcpy(out, source + first * pixel, static_cast<std::size_t>(count * pixel));
    out += count * pixel;
    return;
  }
  for (std::int64_t k = 0; k < count; ++k, out += pixel) {
    const std::int64_t at = first + k * step;
    const bool inside = source != nullptr && at >= 0 && at < width;
    std::memcpy(out, inside ? source + at * pixel : zeros, static_cast<std::size_t>(pixel));
  }
}

}  // namespace

at::Tensor windows_cpu(const at::Tensor& x, at::IntArrayRef before, at::IntArrayRef after,
                       at::IntArrayRef kernel, at::IntArrayRef stride, at::IntArrayRef dilation,
                       double zero) {
  const Plane plane = plane_of("repquant::windows", x, before, after, kernel, stride, dilation);
  const at::Tensor input = x.contiguous();
  const at::Tensor pad = at::full({std::max<std::int64_t>(1, x.size(-1))}, zero, x.options());
  at::Tensor result = new_output(grid_sizes(plane, x, plane.taps() * x.size(-1)), x.scalar_type());
  if (result.numel() == 0) return result;
  const auto pixel = static_cast<std::int64_t>(x.element_size()) * x.size(-1);
  const auto* from = static_cast<const char*>(input.const_data_ptr());
  const auto* zeros = static_cast<const char*>(pad.const_data_ptr());
  auto* to = static_cast<char*>(result.mutable_data_ptr());
  const std::int64_t line = plane.grid[1] * plane.taps() * pixel;
  const std::int64_t image = plane.size[0] * plane.size[1] * pixel;
  split_work(x.size(0) * plane.grid[0], std::max<std::int64_t>(1, kGrain / line),
             [&](std::int64_t begin, std::int64_t end) {
               for (std::int64_t task = begin; task < end; ++task) {
                 const char* picture = from + task / plane.grid[0] * image;
                 const std::int64_t top = task % plane.grid[0] * plane.stride[0] - plane.before[0];
                 char* out = to + task * line;
                 for (std::int64_t w = 0; w < plane.grid[1]; ++w) {
                   const std::int64_t left = w * plane.stride[1] - plane.before[1];
                   for (std::int64_t k = 0; k < plane.kernel[0]; ++k) {
                     const std::int64_t row = top + k * plane.dilation[0];
                     const bool inside = row >= 0 && row < plane.size[0];
                     copy_pixels(plane, inside ? picture + row * plane.size[1] * pixel : nullptr,
                                 zeros, left, pixel, out);
                   }
                 }
               }
             });
  return result;
}

at::Tensor patches_cpu(const at::Tensor& x) {
  TORCH_CHECK(x.dim() == 6, "repquant::patches: needs [B, C, rows, height, columns, width], got ",
              x.sizes());
  const auto size = [&](int d) { return x.size(d); };
  at::Tensor result =
      new_output({size(0), size(2), size(4), size(1), size(3), size(5)}, x.scalar_type());
  if (result.numel() == 0) return result;
  const at::Tensor input = x.stride(5) == 1 || size(5) == 1 ? x : x.contiguous();
  const auto item = static_cast<std::int64_t>(x.element_size());
  const auto stride = [&](int d) { return input.stride(d) * item; };
  const auto* from = static_cast<const char*>(input.const_data_ptr());
  auto* to = static_cast<char*>(result.mutable_data_ptr());
  const std::int64_t line = size(5) * item, patch = size(1) * size(3) * line;
  split_work(size(0) * size(2), std::max<std::int64_t>(1, kGrain / (size(4) * patch)),
             [&](std::int64_t begin, std::int64_t end) {
               for (std::int64_t task = begin; task < end; ++task) {
                 const char* rows = from + task / size(2) * stride(0) + task % size(2) * stride(2);
                 char* out = to + task * size(4) * patch;
                 for (std::int64_t c = 0; c < size(1); ++c) {
                   for (std::int64_t h = 0; h < size(3); ++h, out += line) {
                     const char* row = rows + c * stride(1) + h * stride(3);
                     for (std::int64_t w = 0; w < size(4); ++w) {
                       std::memcpy(out + w * patch, row + w * stride(4),
                                   static_cast<std::size_t>(line));
                     }
                   }
                 }
               }
             });
  return result;
}

}  // namespace repquant::ops
