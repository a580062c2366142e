#include "fit/linear_problem.h"

#include <ATen/ATen.h>

#include "plan/simulate.h"

namespace repquant {

ChannelFold fold_of(const InputQuantizer& quantizer) {
  if (!quantizer.per_channel()) {
    return {at::ones({1}, at::kFloat), at::zeros({1}, at::kFloat)};
  }
  return {(quantizer.multiplier * quantizer.scale).reciprocal(),
          (static_cast<double>(quantizer.zero_point) - quantizer.offset) * quantizer.scale};
}

FoldedLinear folded_linear(const at::Tensor& weight, const at::Tensor& bias,
                           const ChannelFold& fold) {
  FoldedLinear folded;
  folded.weight = (weight * fold.ratio).contiguous();
  folded.bias = bias.defined() ? bias.clone() : at::zeros({weight.size(0)}, at::kFloat);
  if (fold.shift.numel() > 1) folded.bias += at::mv(folded.weight, fold.shift);
  return folded;
}

at::Tensor without_channels(const at::Tensor& x, const std::vector<std::int64_t>& channels) {
  return channels.empty() ? x : x.index_fill(1, at::tensor(channels, at::kLong), 0.0);
}

at::Tensor side_output(const at::Tensor& x, const SideColumns& side) {
  const at::Tensor columns = (encode_side(x, side) - side.zero_point) * side.scale;
  return at::matmul(columns, side.weight.dequantize().t());
}

}  // namespace repquant
