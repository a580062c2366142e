#include "sweep/soft_plan.h"

#include <ATen/ATen.h>

#include <limits>

#include "plan/simulate.h"

namespace repquant {
namespace {

// Steps of Adam: of a code, of a log scale, of an offset in codes, and of a bias relative to the
// row's step times the root of the columns.
constexpr double kCodeRate = 0.02;
constexpr double kLogRate = 0.002;
constexpr double kOffsetRate = 0.005;

/// `exact` with the gradient of `smooth`.
at::Tensor straight_through(const at::Tensor& exact, const at::Tensor& smooth) {
  return smooth + (exact - smooth).detach();
}

at::Tensor soft_round(const at::Tensor& x) { return straight_through(at::round(x), x); }

at::Tensor soft_operand(const at::Tensor& x, const OperandQuantizer& quantizer,
                        const at::Tensor& scale) {
  const auto codes = soft_round(x / scale + quantizer.zero_point)
                         .clamp(0.0, static_cast<double>(quantizer.max_code()));
  return (codes - quantizer.zero_point) * scale;
}

void harden_operand(OperandQuantizer& quantizer, const at::Tensor& log_scale) {
  quantizer.scale = log_scale.detach().exp();
  quantizer.multiplier = quantizer.scale.reciprocal();
}

}  // namespace

at::Tensor SoftPlan::learn(const at::Tensor& start, double rate) {
  const at::Tensor leaf = start.detach().to(at::kFloat).clone().set_requires_grad(true);
  parameters_.push_back({leaf, rate});
  return leaf;
}

SoftPlan::SoftPlan(const SitePlan& plan, bool frozen_input) : plan_(plan) {
  if (const auto* linear = std::get_if<LinearPlan>(&plan_.plan)) {
    codes_ = learn(linear->weight.codes, kCodeRate);
    log_row_scale_ = learn(linear->weight.scale.log(), kLogRate);
    const double unit = (linear->weight.scale.mean() * linear->input.scale).item<double>();
    bias_ = learn(linear->bias, linear->quantized_input ? unit : 1e-3);
    log_multiplier_ = linear->input.multiplier;
    offset_ = linear->input.offset;
    if (!linear->quantized_input) return;
    log_multiplier_ = linear->input.multiplier.log();
    if (frozen_input) return;
    log_multiplier_ = learn(log_multiplier_, kLogRate);
    if (linear->input.per_channel()) offset_ = learn(offset_, kOffsetRate);
  } else if (const auto* scores = std::get_if<ScoresPlan>(&plan_.plan)) {
    log_left_ = learn(scores->left.scale.log(), kLogRate);
    log_right_ = learn(scores->right.scale.log(), kLogRate);
  } else {
    log_left_ = learn(std::get<AttendPlan>(plan_.plan).value.scale.log(), kLogRate);
  }
}

/// The weight's codes within their range; columns that side columns stand in for stay zero.
at::Tensor SoftPlan::soft_codes(const LinearPlan& plan) const {
  const double limit = (1 << (plan.weight.bits - 1)) - 1;
  const at::Tensor codes = codes_.clamp(-limit, limit);
  if (plan.side.channels.empty()) return codes;
  return codes.index_fill(1, at::tensor(plan.side.channels, at::kLong), 0.0);
}

at::Tensor SoftPlan::evaluate(const std::vector<at::Tensor>& operands) const {
  if (const auto* linear = std::get_if<LinearPlan>(&plan_.plan)) {
    const at::Tensor weight = soft_round(soft_codes(*linear)) * log_row_scale_.exp().unsqueeze(1);
    const at::Tensor& x = operands[0];
    if (!linear->quantized_input) return at::linear(x, weight, bias_);
    const InputQuantizer& input = linear->input;
    const auto top = static_cast<double>(input.max_code());
    const at::Tensor position = x * log_multiplier_.exp() + offset_;
    at::Tensor codes;
    if (input.form == CodeForm::kQuadratic) {
      const at::Tensor inside = position.clamp(0.0, top * top);
      codes = straight_through(at::round(inside).sqrt().round().square(), inside);
    } else {
      codes = soft_round(position).clamp(0.0, top);
    }
    at::Tensor output =
        at::linear((codes - static_cast<double>(input.zero_point)) * input.scale, weight, bias_);
    if (!linear->side.channels.empty()) {
      const at::Tensor side =
          (encode_side(x.detach(), linear->side) - linear->side.zero_point) * linear->side.scale;
      output = output + at::matmul(side, linear->side.weight.dequantize().t());
    }
    return output;
  }
  if (const auto* scores = std::get_if<ScoresPlan>(&plan_.plan)) {
    return at::matmul(soft_operand(operands[0], scores->left, log_left_.exp()),
                      soft_operand(operands[1], scores->right, log_right_.exp()));
  }
  const auto& attend = std::get<AttendPlan>(plan_.plan);
  const at::Tensor value = soft_operand(operands[1], attend.value, log_left_.exp());
  const at::Tensor exact = simulate_softmax_weights(attend, operands[0].detach());
  if (!attend.row_maximum) {
    const at::Tensor smooth = at::softmax(operands[0], -1).nan_to_num(0.0);
    return at::matmul(straight_through(exact, smooth), value);
  }
  const at::Tensor maximum = operands[0].detach().amax(-1, /*keepdim=*/true);
  const at::Tensor masked_row = maximum == -std::numeric_limits<double>::infinity();
  const at::Tensor smooth =
      at::exp(operands[0] - maximum.masked_fill(masked_row, 0.0)).masked_fill(masked_row, 0.0);
  const at::Tensor weights = straight_through(exact, smooth);
  return at::matmul(weights, value) / weights.sum(-1, /*keepdim=*/true).clamp_min(1.0);
}

SitePlan SoftPlan::harden() const {
  SitePlan plan = plan_;
  if (auto* linear = std::get_if<LinearPlan>(&plan.plan)) {
    linear->weight.codes = soft_codes(*linear).detach().round().to(at::kChar);
    linear->weight.scale = log_row_scale_.detach().exp();
    linear->bias = bias_.detach().clone();
    if (linear->quantized_input) {
      linear->input.multiplier = log_multiplier_.detach().exp();
      linear->input.offset = offset_.detach().clone();
    }
  } else if (auto* scores = std::get_if<ScoresPlan>(&plan.plan)) {
    harden_operand(scores->left, log_left_);
    harden_operand(scores->right, log_right_);
  } else {
    harden_operand(std::get<AttendPlan>(plan.plan).value, log_left_);
  }
  return plan;
}

}  // namespace repquant
