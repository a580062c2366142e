#include <ATen/ATen.h>

#include <algorithm>

#include "ops/kernels/kernels.h"
#include "ops/operators.h"
#include "ops/output.h"
#include "ops/parallel.h"
#include "ops/plane.h"
#include "ops/rearrange.h"
#include "ops/scratch.h"
#include "ops/token_output.h"

namespace repquant::ops {
namespace {

/// Products that one thread should have at least.
constexpr std::int64_t kGrain = 1 << 16;

/// What both forms have in common; the caller keeps all tensors but the input.
struct Convolution {
  DepthwiseArgs args;
  at::Tensor input;
};

const float* lanes(const at::Tensor& vector, const DepthwiseArgs& args, const char* name) {
  TORCH_CHECK(vector.scalar_type() == at::kFloat && vector.is_contiguous() &&
                  vector.numel() == 16 * args.blocks(),
              "repquant::depthwise: ", name, " must be a contiguous float32 vector of ",
              16 * args.blocks(), " elements, got ", vector.scalar_type(), " ", vector.sizes());
  return vector.const_data_ptr<float>();
}

Convolution convolution_of(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                           const at::Tensor& bias, const OptionalTensor& multiplier,
                           const OptionalTensor& zero_point, std::int64_t max_code,
                           at::IntArrayRef kernel, at::IntArrayRef stride, at::IntArrayRef padding,
                           at::IntArrayRef dilation, std::int64_t activation) {
  constexpr const char* kName = "repquant::depthwise";
  const Plane plane = plane_of(kName, x, padding, padding, kernel, stride, dilation);
  const bool codes = x.scalar_type() == at::kByte;
  TORCH_CHECK((codes ? !multiplier && zero_point : x.scalar_type() == at::kFloat) &&
                  (codes || multiplier.has_value() == zero_point.has_value()),
              kName, ": needs float32 with a whole grid or none, or uint8 with a zero point, got ",
              x.scalar_type());
  TORCH_CHECK(activation >= 0 && activation < kActivations && max_code >= 0 && max_code <= 255,
              kName, ": unknown activation, or codes outside 8 bits");
  Convolution c{{}, in_order(x)};
  DepthwiseArgs& args = c.args;
  args.channels = x.size(-1);
  args.plane = plane;
  const std::int64_t taps = plane.taps();
  TORCH_CHECK(weight.scalar_type() == at::kFloat && weight.is_contiguous() &&
                  weight.numel() == args.blocks() * taps * 16,
              kName, ": the weight was not packed for ", args.channels, " channels and ", taps,
              " taps");
  if (codes) {
    args.codes = c.input.const_data_ptr<std::uint8_t>();
  } else {
    args.x = c.input.const_data_ptr<float>();
  }
  args.weight = weight.const_data_ptr<float>();
  args.scale = lanes(scale, args, "scale");
  args.bias = lanes(bias, args, "bias");
  if (multiplier) args.multiplier = lanes(*multiplier, args, "multiplier");
  if (zero_point) args.zero_point = lanes(*zero_point, args, "zero_point");
  args.max_code = static_cast<int>(max_code);
  args.activation = static_cast<Activation>(activation);
  return c;
}

void run(const DepthwiseArgs& args, std::int64_t images) {
  const Plane& plane = args.plane;
  const std::int64_t rows = images * plane.grid[0];
  if (rows == 0 || args.channels == 0) return;
  const Kernels& table = kernels(current_level());
  // A part reads and converts the rows above and below it too.
  const std::int64_t line = plane.grid[1] * args.channels * plane.taps();
  const std::int64_t grain = std::max(2 * plane.reach(), kGrain / std::max<std::int64_t>(1, line));
  split_work(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    const auto bytes = args.scratch() * static_cast<std::int64_t>(sizeof(float));
    table.depthwise(args, begin, end, reinterpret_cast<float*>(thread_scratch(bytes)));
  });
}

}  // namespace

at::Tensor depthwise_cpu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale,
                         const at::Tensor& bias, const OptionalTensor& multiplier,
                         const OptionalTensor& zero_point, std::int64_t max_code,
                         at::IntArrayRef kernel, at::IntArrayRef stride, at::IntArrayRef padding,
                         at::IntArrayRef dilation, std::int64_t activation) {
  Convolution c = convolution_of(x, weight, scale, bias, multiplier, zero_point, max_code, kernel,
                                 stride, padding, dilation, activation);
  at::Tensor out = new_output(grid_sizes(c.args.plane, x, c.args.channels), at::kFloat);
  c.args.out = out.mutable_data_ptr<float>();
  run(c.args, x.size(0));
  return out;
}

std::tuple<at::Tensor, at::Tensor> depthwise_tokens_cpu(
    const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale, const at::Tensor& bias,
    const OptionalTensor& multiplier, const OptionalTensor& zero_point, std::int64_t max_code,
    at::IntArrayRef kernel, at::IntArrayRef stride, at::IntArrayRef padding,
    at::IntArrayRef dilation, std::int64_t activation, std::int64_t top,
    const OptionalTensor& levels, const OptionalTensor& token_multiplier,
    const OptionalTensor& token_offset) {
  Convolution c = convolution_of(x, weight, scale, bias, multiplier, zero_point, max_code, kernel,
                                 stride, padding, dilation, activation);
  check_scale("repquant::depthwise_tokens", c.args.channels, token_multiplier, token_offset);
  TokenArgs tokens;
  const TokenOutput out(grid_sizes(c.args.plane, x, c.args.channels), c.args.channels, top, levels,
                        tokens);
  set_scale(tokens, token_multiplier, token_offset);
  c.args.tokens = &tokens;
  run(c.args, x.size(0));
  return {out.codes, out.rows};
}

}  // namespace repquant::ops
