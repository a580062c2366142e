#include "learn/soft_plan.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>

#include "base/overloaded.h"
#include "gptq/row_scale.h"
#include "plan/simulate.h"

namespace repquant {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Steps of Adam, of a row's factor and, in standard deviations of all of them, of a bias.
constexpr double kFactorRate = 1e-3;
constexpr double kBiasRate = 1e-3;
constexpr double kAny = std::numeric_limits<double>::infinity();

struct StraightThrough : torch::autograd::Function<StraightThrough> {
  static at::Tensor forward(AutogradContext* /*context*/, const at::Tensor& /*smooth*/,
                            const at::Tensor& exact) {
    return exact.clone();
  }

  static variable_list backward(AutogradContext* /*context*/, const variable_list& gradients) {
    return {gradients[0], {}};
  }
};

/// `exact` with the gradient of `smooth`.
at::Tensor straight_through(const at::Tensor& smooth, const at::Tensor& exact) {
  return StraightThrough::apply(smooth, exact.detach());
}

/// simulate_softmax_weights() with the gradient of exp(x - rowmax).
struct RowWeights : torch::autograd::Function<RowWeights> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& scores,
                            const AttendPlan* plan) {
    const at::Tensor maximum = scores.amax(-1, /*keepdim=*/true);
    const at::Tensor masked_row = maximum == -kAny;
    context->save_for_backward({at::exp(scores - maximum.masked_fill(masked_row, 0.0))});
    return simulate_softmax_weights(*plan, scores);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    return {gradients[0] * context->get_saved_variables()[0], {}};
  }
};

/// The operand as the product sees it, [.., T, d] or, with `transposed` rows, [.., d, S]. Without a
/// gradient beyond the range of the codes.
at::Tensor soft_operand(const at::Tensor& x, const OperandQuantizer& quantizer, bool transposed) {
  if (quantizer.per_token) {
    const at::Tensor rows = (transposed ? x.transpose(-2, -1) : x) * quantizer.multiplier;
    const at::Tensor smooth = rows + quantizer.zero_point;
    const OperandRows exact = operand_rows(smooth.detach(), quantizer.bits);
    const at::Tensor soft = straight_through(smooth, exact.codes * exact.scale);
    return transposed ? soft.transpose(-2, -1) : soft;
  }
  const at::Tensor inside = (x * quantizer.multiplier + quantizer.zero_point)
                                .clamp(0.0, static_cast<double>(quantizer.max_code()));
  const at::Tensor codes = straight_through(inside, encode(x.detach(), quantizer));
  return (codes - quantizer.zero_point) * quantizer.scale;
}

/// The input of the product in the units of the folded weight.
at::Tensor soft_input(const at::Tensor& x, const InputQuantizer& input) {
  if (input.per_token) {
    return straight_through(token_rows(x, input), product_input(x.detach(), input));
  }
  const double top = static_cast<double>(input.max_product_code());
  const at::Tensor inside = (x * input.multiplier + input.offset).clamp(0.0, top);
  const at::Tensor smooth = inside - static_cast<double>(input.zero_point);
  return straight_through(smooth, product_input(x.detach(), input)) * input.scale;
}

at::Tensor soft_attend(const AttendPlan& plan, const at::Tensor& scores, const at::Tensor& value) {
  const at::Tensor soft_value = soft_operand(value, plan.value, false);
  if (!plan.row_maximum) {
    const at::Tensor smooth = at::softmax(scores, -1).nan_to_num(0.0);
    const at::Tensor exact = simulate_softmax_weights(plan, scores.detach());
    return at::matmul(straight_through(smooth, exact), soft_value);
  }
  const at::Tensor weights = RowWeights::apply(scores, &plan);
  return at::matmul(weights, soft_value) / weights.sum(-1, /*keepdim=*/true).clamp_min(1.0);
}

/// The values that codes of the weight may have, rising.
at::Tensor code_values(const QuantizedWeight& weight) {
  if (weight.levels.defined()) return weight.levels.to(at::kFloat);
  const WeightCodes codes = weight_codes(weight.bits, weight.group_size > 0);
  return at::arange(codes.low, codes.high + 1, at::kFloat);
}

}  // namespace

SoftPlan::SoftPlan(const SitePlan& plan, const SoftPlan* same_weight, double rate) : plan_(plan) {
  const auto* linear = std::get_if<LinearPlan>(&plan_.plan);
  if (linear == nullptr) return;
  const QuantizedWeight& weight = linear->weight;
  values_ = code_values(weight);
  const std::int64_t count = values_.numel();
  const double low = values_[0].item<double>(), high = values_[count - 1].item<double>();
  const double distance = (high - low) / static_cast<double>(count - 1);
  if (same_weight != nullptr) {
    latent_ = same_weight->latent_;
    row_factor_ = same_weight->row_factor_;
  } else {
    latent_ = learn(weight.codes, rate * distance, low - distance / 2, high + distance / 2);
    row_factor_ = learn(at::ones({weight.codes.size(0), 1}), kFactorRate, 0.5, 2.0);
  }
  const double spread = linear->bias.numel() > 1 ? linear->bias.std().item<double>()
                                                 : linear->bias.abs().mean().item<double>();
  bias_ = learn(linear->bias, kBiasRate * spread, -kAny, kAny);
  if (!linear->side.channels.empty()) {
    learned_ = at::ones({weight.codes.size(1)});
    learned_.index_fill_(0, at::tensor(linear->side.channels, at::kLong), 0.0);
  }
}

at::Tensor SoftPlan::learn(const at::Tensor& start, double rate, double low, double high) {
  at::Tensor leaf = start.detach().to(at::kFloat, false, /*copy=*/true).set_requires_grad(true);
  parameters_.push_back({leaf, rate, low, high});
  return leaf;
}

at::Tensor SoftPlan::codes() const {
  const std::int64_t count = values_.numel();
  const at::Tensor middles = (values_.slice(0, 0, count - 1) + values_.slice(0, 1)) / 2;
  const at::Tensor nearest = at::bucketize(latent_.detach(), middles, /*out_int32=*/true);
  return values_.index_select(0, nearest.flatten()).view_as(latent_);
}

std::vector<at::Tensor> SoftPlan::realize() const {
  const auto* linear = std::get_if<LinearPlan>(&plan_.plan);
  if (linear == nullptr) return {};
  // Without a slope the columns of side columns stay as they are.
  const at::Tensor smooth = learned_.defined() ? latent_ * learned_ : latent_;
  return {straight_through(smooth, codes()) * linear->weight.element_scale() * row_factor_, bias_};
}

at::Tensor SoftPlan::evaluate(const std::vector<at::Tensor>& operands,
                              const std::vector<at::Tensor>& realized) const {
  return std::visit(
      Overloaded{
          [&](const LinearPlan& plan) {
            const at::Tensor& x = operands[0];
            if (!plan.quantized_input) return at::linear(x, realized[0], realized[1]);
            at::Tensor output = at::linear(soft_input(x, plan.input), realized[0], realized[1]);
            if (plan.side.channels.empty()) return output;
            const SideColumns& side = plan.side;
            const at::Tensor columns = x.index_select(-1, at::tensor(side.channels, at::kLong));
            const at::Tensor exact = (encode_side(x.detach(), side) - side.zero_point) * side.scale;
            return output +
                   at::matmul(straight_through(columns, exact), side.weight.dequantize().t());
          },
          [&](const ScoresPlan& plan) {
            return at::matmul(soft_operand(operands[0], plan.left, false),
                              soft_operand(operands[1], plan.right, true));
          },
          [&](const AttendPlan& plan) { return soft_attend(plan, operands[0], operands[1]); },
          [&](const EmbeddingPlan& plan) { return simulate_embedding(plan, operands[0]); },
          [&](const GroupedConvolutionPlan& plan) {
            const at::Tensor& x = operands[0];
            const at::Tensor input = plan.quantized_input ? soft_operand(x, plan.input, false) : x;
            return convolve(input, plan.weight.dequantize(), plan.bias, plan.shape);
          }},
      plan_.plan);
}

SitePlan SoftPlan::harden() const {
  SitePlan plan = plan_;
  if (auto* linear = std::get_if<LinearPlan>(&plan.plan)) {
    const at::Tensor factor = row_factor_.detach();
    QuantizedWeight& weight = linear->weight;
    weight.codes = codes().to(at::kChar);
    weight.scale =
        weight.group_size == 0 ? weight.scale * factor.squeeze(1) : weight.scale * factor;
    linear->bias = bias_.detach().clone();
    plan.note += "; learned";
  }
  return plan;
}

}  // namespace repquant
