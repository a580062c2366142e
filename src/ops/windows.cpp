// The windows of a convolution as rows: what pad, unfold, permute and flatten give, copied in runs
// of channels or pixels instead of through strided views.
#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

#include "ops/operators.h"
#include "ops/output.h"
#include "ops/parallel.h"
#include "ops/plane.h"
#include "ops/rearrange.h"

namespace repquant::ops {
namespace {

constexpr std::int64_t kGrain = 1 << 16;  // bytes that one thread should write at least

/// Bytes that are read or written in order, up to `end`.
template <class Byte>
struct Run {
  Byte* at;
  Byte* end;
  std::int64_t left() const { return end - at; }
};

/// Copies `bytes` to `out`, which moves on. Few are copied in one step of a fixed size where there
/// is room, which is no call; what that writes too much is written over by what follows.
void copy_bytes(const Run<const char>& source, std::int64_t bytes, Run<char>& out) {
  constexpr std::int64_t kStep = 16;
  if (bytes <= kStep && source.left() >= kStep && out.left() >= kStep) {
    std::memcpy(out.at, source.at, kStep);
  } else {
    std::memcpy(out.at, source.at, static_cast<std::size_t>(bytes));
  }
  out.at += bytes;
}

/// Copies the row of pixels that one window row needs; `source` is null where it lies outside.
void copy_pixels(const Plane& plane, const Run<const char>& source, const Run<const char>& zeros,
                 std::int64_t first, std::int64_t pixel, Run<char>& out) {
  const std::int64_t count = plane.kernel[1], step = plane.dilation[1], width = plane.size[1];
  const auto from = [&](std::int64_t place) {
    return Run<const char>{source.at + place * pixel, source.end};
  };
  if (source.at != nullptr && step == 1 && first >= 0 && first + count <= width) {
    return copy_bytes(from(first), count * pixel, out);
  }
  for (std::int64_t k = 0; k < count; ++k) {
    const std::int64_t place = first + k * step;
    const bool inside = source.at != nullptr && place >= 0 && place < width;
    copy_bytes(inside ? from(place) : zeros, pixel, out);
  }
}

}  // namespace

at::Tensor windows_cpu(const at::Tensor& x, at::IntArrayRef before, at::IntArrayRef after,
                       at::IntArrayRef kernel, at::IntArrayRef stride, at::IntArrayRef dilation,
                       double zero) {
  const Plane plane = plane_of("repquant::windows", x, before, after, kernel, stride, dilation);
  const at::Tensor input = in_order(x);
  const at::Tensor pad = at::full({std::max<std::int64_t>(1, x.size(-1))}, zero, x.options());
  at::Tensor result = new_output(grid_sizes(plane, x, plane.taps() * x.size(-1)), x.scalar_type());
  if (result.numel() == 0) return result;
  const auto pixel = static_cast<std::int64_t>(x.element_size()) * x.size(-1);
  const auto* from = static_cast<const char*>(input.const_data_ptr());
  const char* end_of_input = from + input.numel() * static_cast<std::int64_t>(x.element_size());
  const auto* pad_bytes = static_cast<const char*>(pad.const_data_ptr());
  const Run<const char> zeros{pad_bytes, pad_bytes + pixel}, nothing{nullptr, nullptr};
  auto* to = static_cast<char*>(result.mutable_data_ptr());
  const std::int64_t line = plane.grid[1] * plane.taps() * pixel;
  const std::int64_t row_bytes = plane.size[1] * pixel, image = plane.size[0] * row_bytes;
  split_work(x.size(0) * plane.grid[0], std::max<std::int64_t>(1, kGrain / line),
             [&](std::int64_t begin, std::int64_t end) {
               for (std::int64_t task = begin; task < end; ++task) {
                 const char* picture = from + task / plane.grid[0] * image;
                 const std::int64_t top = task % plane.grid[0] * plane.stride[0] - plane.before[0];
                 Run<char> out{to + task * line, to + (task + 1) * line};
                 for (std::int64_t w = 0; w < plane.grid[1]; ++w) {
                   const std::int64_t left = w * plane.stride[1] - plane.before[1];
                   for (std::int64_t k = 0; k < plane.kernel[0]; ++k) {
                     const std::int64_t row = top + k * plane.dilation[0];
                     const bool inside = row >= 0 && row < plane.size[0];
                     copy_pixels(plane,
                                 inside ? Run<const char>{picture + row * row_bytes, end_of_input}
                                        : nothing,
                                 zeros, left, pixel, out);
                   }
                 }
               }
             });
  return result;
}

}  // namespace repquant::ops
