#include "sweep/soft_plan.h"

#include <ATen/ATen.h>
#include <ATen/ExpandUtils.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <limits>

#include "plan/simulate.h"
#include "sweep/fit_input.h"

namespace repquant {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Steps of Adam: of a log scale, of an offset in codes, and of a bias in steps of the product (row
// scale times input scale). Five times faster ones gain nothing; see docs/decisions-accuracy.md,
// section 7, on why weight codes are not learned.
constexpr double kLogRate = 0.001;
constexpr double kOffsetRate = 0.01;
constexpr double kBiasRate = 0.2;

/// clamp(round(x m + a), 0, top) - z, or with the quadratic form its square's nearest code. Within
/// the range the gradient is that of x m + a, outside it is 0.
struct Codes : torch::autograd::Function<Codes> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& multiplier, const at::Tensor& offset, double top,
                            double zero_point, bool quadratic) {
    const double last = quadratic ? top * top : top;
    at::Tensor position = x * multiplier + offset;
    const at::Tensor inside = position.ge(-0.5).logical_and_(position.le(last + 0.5));
    context->save_for_backward({x, multiplier, inside});
    context->saved_data["offset"] = offset.sizes().vec();
    at::Tensor codes = position.round_().clamp_(0.0, last);
    if (quadratic) codes = codes.sqrt_().round_().square_();
    return codes.sub_(zero_point);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor inside = gradients[0] * saved[2];
    at::Tensor x, multiplier, offset;
    if (context->needs_input_grad(1)) {
      multiplier = at::sum_to(inside * saved[0], saved[1].sizes());
    }
    if (context->needs_input_grad(2)) {
      offset = at::sum_to(inside, context->saved_data["offset"].toIntVector());
    }
    if (context->needs_input_grad(0)) x = inside * saved[1];
    return {x, multiplier, offset, {}, {}, {}};
  }
};

/// simulate_softmax_weights() with the gradient of exp(x - rowmax).
struct RowWeights : torch::autograd::Function<RowWeights> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& scores,
                            const AttendPlan* plan) {
    const at::Tensor maximum = scores.amax(-1, /*keepdim=*/true);
    const at::Tensor masked_row = maximum == -std::numeric_limits<double>::infinity();
    context->save_for_backward({at::exp(scores - maximum.masked_fill(masked_row, 0.0))});
    return simulate_softmax_weights(*plan, scores);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    return {gradients[0] * context->get_saved_variables()[0], {}};
  }
};

/// `exact` with the gradient of `smooth`.
at::Tensor straight_through(const at::Tensor& exact, const at::Tensor& smooth) {
  return smooth + (exact - smooth).detach();
}

at::Tensor soft_operand(const at::Tensor& x, const OperandQuantizer& quantizer,
                        const at::Tensor& scale) {
  const at::Tensor codes = Codes::apply(x, scale.reciprocal(), quantizer.zero_point,
                                        static_cast<double>(quantizer.max_code()), 0.0, false);
  return (codes - quantizer.zero_point) * scale;
}

void harden_operand(OperandQuantizer& quantizer, const at::Tensor& log_scale) {
  quantizer.scale = log_scale.detach().exp();
  quantizer.multiplier = quantizer.scale.reciprocal();
}

}  // namespace

at::Tensor SoftPlan::learn(const at::Tensor& start, double rate) {
  at::Tensor leaf = start.detach().to(at::kFloat).clone().set_requires_grad(true);
  parameters_.push_back({leaf, rate});
  return leaf;
}

SoftPlan::SoftPlan(const SitePlan& plan, const SoftPlan* same_input, bool fixed_offset)
    : plan_(plan) {
  if (const auto* linear = std::get_if<LinearPlan>(&plan_.plan)) {
    start_linear(*linear, same_input, fixed_offset);
  } else if (const auto* scores = std::get_if<ScoresPlan>(&plan_.plan)) {
    log_left_ = learn(scores->left.scale.log(), kLogRate);
    log_right_ = learn(scores->right.scale.log(), kLogRate);
  } else if (const auto* attend = std::get_if<AttendPlan>(&plan_.plan)) {
    log_left_ = learn(attend->value.scale.log(), kLogRate);
  }
}

void SoftPlan::start_linear(const LinearPlan& plan, const SoftPlan* same_input, bool fixed_offset) {
  log_row_factor_ = learn(at::zeros({plan.weight.codes.size(0), 1}), kLogRate);
  const double unit = plan.weight.scale.abs().mean().item<double>();
  double input_scale = plan.quantized_input ? plan.input.scale : 1.0;
  // The plan does not know the rows' scales; norm outputs and the like reach to a few units.
  if (plan.quantized_input && plan.input.per_token) input_scale = 1.0 / plan.input.zero_point;
  bias_ = learn(plan.bias, kBiasRate * unit * input_scale);
  if (!plan.quantized_input || plan.input.per_token) return;
  if (same_input != nullptr) {
    log_multiplier_ = same_input->log_multiplier_;
    offset_ = same_input->offset_;
    return;
  }
  log_multiplier_ = learn(plan.input.multiplier.log(), kLogRate);
  offset_ = plan.input.offset;
  if (plan.input.per_channel() && !fixed_offset) offset_ = learn(offset_, kOffsetRate);
}

/// Row scales [N, 1], or [N, K] with groups of columns.
at::Tensor SoftPlan::row_scale(const LinearPlan& plan) const {
  const QuantizedWeight& weight = plan.weight;
  if (weight.group_size == 0) return weight.scale.unsqueeze(1) * log_row_factor_.exp();
  return weight.scale.repeat_interleave(weight.group_size, 1).narrow(1, 0, weight.codes.size(1)) *
         log_row_factor_.exp();
}

std::vector<at::Tensor> SoftPlan::realize() const {
  if (const auto* linear = std::get_if<LinearPlan>(&plan_.plan)) {
    const at::Tensor codes =
        without_channels(linear->weight.codes.to(at::kFloat), linear->side.channels);
    if (!linear->quantized_input || linear->input.per_token) {
      return {codes * row_scale(*linear), bias_};
    }
    return {codes * (row_scale(*linear) * linear->input.scale), bias_, log_multiplier_.exp(),
            offset_};
  }
  if (!log_left_.defined()) return {};  // an embedding learns nothing
  std::vector<at::Tensor> scales{log_left_.exp()};
  if (log_right_.defined()) scales.push_back(log_right_.exp());
  return scales;
}

at::Tensor SoftPlan::evaluate(const std::vector<at::Tensor>& operands,
                              const std::vector<at::Tensor>& realized) const {
  if (const auto* linear = std::get_if<LinearPlan>(&plan_.plan)) {
    const at::Tensor& x = operands[0];
    if (!linear->quantized_input) return at::linear(x, realized[0], realized[1]);
    const InputQuantizer& input = linear->input;
    if (input.per_token) {
      const at::Tensor exact = fake_quantize(x.detach(), input);
      return at::linear(straight_through(exact, x), realized[0], realized[1]);
    }
    const at::Tensor codes =
        Codes::apply(x, realized[2], realized[3], static_cast<double>(input.max_code()),
                     static_cast<double>(input.zero_point), input.form == CodeForm::kQuadratic);
    at::Tensor output = at::linear(codes, realized[0], realized[1]);
    if (!linear->side.channels.empty()) {
      const auto& side = linear->side;
      const at::Tensor columns = x.index_select(-1, at::tensor(side.channels, at::kLong));
      const at::Tensor exact = (encode_side(x.detach(), side) - side.zero_point) * side.scale;
      output = output + at::matmul(straight_through(exact, columns), side.weight.dequantize().t());
    }
    return output;
  }
  if (const auto* scores = std::get_if<ScoresPlan>(&plan_.plan)) {
    return at::matmul(soft_operand(operands[0], scores->left, realized[0]),
                      soft_operand(operands[1], scores->right, realized[1]));
  }
  if (const auto* embedding = std::get_if<EmbeddingPlan>(&plan_.plan)) {
    return simulate_embedding(*embedding, operands[0]);
  }
  const auto& attend = std::get<AttendPlan>(plan_.plan);
  const at::Tensor value = soft_operand(operands[1], attend.value, realized[0]);
  if (!attend.row_maximum) {
    const at::Tensor smooth = at::softmax(operands[0], -1).nan_to_num(0.0);
    const at::Tensor exact = simulate_softmax_weights(attend, operands[0].detach());
    return at::matmul(straight_through(exact, smooth), value);
  }
  const at::Tensor weights = RowWeights::apply(operands[0], &attend);
  return at::matmul(weights, value) / weights.sum(-1, /*keepdim=*/true).clamp_min(1.0);
}

SitePlan SoftPlan::harden() const {
  SitePlan plan = plan_;
  if (auto* linear = std::get_if<LinearPlan>(&plan.plan)) {
    at::Tensor factor = log_row_factor_.detach().exp();
    if (linear->weight.group_size == 0) factor = factor.squeeze(1);
    linear->weight.scale = linear->weight.scale * factor;
    linear->bias = bias_.detach().clone();
    if (log_multiplier_.defined()) {
      linear->input.multiplier = log_multiplier_.detach().exp();
      linear->input.offset = offset_.detach().clone();
    }
  } else if (auto* scores = std::get_if<ScoresPlan>(&plan.plan)) {
    harden_operand(scores->left, log_left_);
    harden_operand(scores->right, log_right_);
  } else if (auto* attend = std::get_if<AttendPlan>(&plan.plan)) {
    harden_operand(attend->value, log_left_);
  }
  return plan;
}

}  // namespace repquant
