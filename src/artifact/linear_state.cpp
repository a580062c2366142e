#include "artifact/linear_state.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include "graph/rewrite.h"
#include "plan/simulate.h"
#include "repquant/error.h"

namespace repquant {

using torch::jit::Node;

namespace {

/// What adds the bias goes on to operand codes.
template <typename State>
void write_codes(const OperandCodes& operands, State& state) {
  state.bias =
      state.bias * operands.multiplier + operands.zero_point - static_cast<double>(operands.shift);
  state.output = LinearOutput::kOperandCodes;
  state.output_low = -operands.shift;
  state.output_high = operands.max_code - operands.shift;
}

/// Codes of a weight, or their numbers and the levels.
template <typename State>
void write_weight(const QuantizedWeight& weight, const std::string& path, State& state) {
  const bool bytes = weight.bits > 4;  // which hold any level, so that it needs no number
  state.bits = weight.bits;
  state.weight_codes = bytes ? weight.codes : weight.numbered();
  state.levels = bytes ? at::Tensor() : weight.levels;
  if (weight.levels.defined() && !at::isin(weight.codes, weight.levels).all().item<bool>()) {
    throw Error(ErrorKind::kInternal,
                {.what = "codes of a weight are not among its levels", .where = path});
  }
}

}  // namespace

WeightOnlyState weight_only_state(const LinearPlan& plan, const std::string& path) {
  WeightOnlyState state;
  write_weight(plan.weight, path, state);
  state.scale = plan.weight.scale;
  state.bias = plan.bias;
  state.group_size = plan.weight.group_size;
  return state;
}

LinearState linear_state(const LinearPlan& plan, const std::string& path) {
  LinearState state;
  write_weight(plan.weight, path, state);
  state.scale = plan.weight.scale.to(at::kDouble) * plan.input.scale;
  state.bias = plan.bias.to(at::kDouble);
  if (plan.input.per_token) state.bias = at::zeros_like(state.bias);  // TokenScale adds it
  state.zero_point = plan.input.zero_point;
  state.max_product_code = plan.input.max_product_code();
  if (state.max_product_code > 255) {
    throw Error(ErrorKind::kUnsupported,
                {.what = "the input codes of a site do not fit eight bits",
                 .where = path,
                 .expected = "at most 8 bits, or 4 bits on a quadratic grid",
                 .got = std::to_string(plan.input.bits) + " bits"});
  }
  return state;
}

TokenScaleState token_scale_state(const LinearPlan& plan) {
  return {.sums = weight_sums(plan.weight).to(at::kDouble), .bias = plan.bias.to(at::kDouble)};
}

void write_operands(const OperandCodes& operands, LinearState& product, TokenScaleState& state) {
  product.scale = product.scale * operands.multiplier;
  state.sums = state.sums * operands.multiplier;
  write_codes(operands, state);
}

void write_operands(const OperandCodes& operands, LinearState& state) {
  state.scale = state.scale * operands.multiplier;
  write_codes(operands, state);
}

void write_activation(const Node& activation, const std::optional<ProductCodes>& product,
                      LinearState& state) {
  const bool gelu = is_kind(&activation, "aten::gelu");
  const bool tanh = gelu && *torch::jit::constant_as<std::string>(activation.input(1)) == "tanh";
  state.activation = tanh   ? LinearActivation::kGeluTanh
                     : gelu ? LinearActivation::kGelu
                            : LinearActivation::kRelu;
  if (!product) return;
  state.output = LinearOutput::kProductCodes;
  state.output_scale = 1.0 / product->next->multiplier.item<double>();
  state.output_zero = static_cast<std::int64_t>(product->next->offset.item<double>());
  state.output_max_code = product->next->max_code();
  state.output_quadratic = product->next->form == CodeForm::kQuadratic;
}

}  // namespace repquant
