#include "artifact/decide.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <cmath>
#include <limits>

#include "artifact/lower.h"
#include "graph/operator_kinds.h"
#include "graph/rewrite.h"
#include "plan/simulate.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// The operand quantizer that input `offset` of an attention product has.
const OperandQuantizer* operand_of(const PlannedSite& site, std::size_t offset) {
  if (const auto* scores = site.scores()) return offset == 0 ? &scores->left : &scores->right;
  if (const auto* attend = site.attend()) return offset == 1 ? &attend->value : nullptr;
  return nullptr;
}

/// Side columns and weight-only sites need the floating-point input, and what they add or multiply
/// comes between the product and everything that could be fused behind it.
bool reads_float(const LinearPlan& plan) {
  return !plan.quantized_input || !plan.side.channels.empty();
}

/// If all readers are planned Linears that make the same codes of it, their quantizer. A grid per
/// token is found from the floating-point values: where `codes` must be written it is none.
const InputQuantizer* common_quantizer(const std::vector<Reader>& readers,
                                       const PlannedSites& planned, bool codes = true) {
  const InputQuantizer* common = nullptr;
  for (const auto& reader : readers) {
    const auto found = planned.find(reader.node);
    if (found == planned.end() || reader.offset != 0) return nullptr;
    const LinearPlan* plan = found->second.linear();
    if (plan == nullptr || reads_float(*plan) || (codes && plan->input.per_token)) return nullptr;
    if (common != nullptr && !same_codes(*common, plan->input)) return nullptr;
    common = &plan->input;
  }
  return common;
}

bool is_integer_code(double value) {
  return value == std::nearbyint(value) && value >= 0.0 && value <= 255.0;
}

bool is_per_tensor(const InputQuantizer& quantizer) {
  return quantizer.multiplier.numel() == 1 && quantizer.offset.numel() == 1;
}

/// True if an epilogue with one scale and one integer zero point can make these codes.
bool fits_epilogue(const InputQuantizer& quantizer) {
  if (!is_per_tensor(quantizer)) return false;
  return quantizer.multiplier.item<double>() > 0.0 &&
         is_integer_code(quantizer.offset.item<double>());
}

class Decider {
 public:
  Decider(const PlannedSites& planned, const Observed& observed)
      : planned_(planned), observed_(observed) {}

  Decisions run() {
    for (const auto& [node, site] : planned_) {
      if (norm_of(*site.site) != nullptr) decide_norm(*linear_of(*site.site));
      if (site.linear() != nullptr) decide_linear(node, *site.linear());
      if (site.attend() != nullptr) decide_attend(node, site);
    }
    for (const auto& [node, site] : planned_) {  // once it is known whose input arrives as codes
      const LinearSite* linear = linear_of(*site.site);
      if (linear != nullptr && linear->windows != nullptr) decide_source(node, *site.linear());
    }
    return std::move(result_);
  }

 private:
  /// All that `value` reaches gets codes of this grid.
  void mark(const Value* value, const InputQuantizer& quantizer) {
    for (const auto& reader : readers_of(value, false)) result_.codes.insert(reader.value);
    for (const Node* padding : paddings_after(value, false)) {
      result_.paddings[padding] = zero_code(quantizer);
    }
  }

  /// The windows of a convolution repeat its input: codes are made before, where the elements are
  /// fewest, and of several such places at the first.
  void decide_source(const Node* node, const LinearPlan& plan) {
    const Value* input = node->input(0);
    if (reads_float(plan) || plan.input.per_token || !is_per_tensor(plan.input) ||
        result_.codes.count(input) > 0)
      return;
    const auto elements = [this](const Value* value) {
      const auto shape = observed_.shapes.find(value);
      return shape == observed_.shapes.end() ? std::numeric_limits<std::int64_t>::max()
                                             : c10::multiply_integers(shape->second);
    };
    const Value* best = input;
    for (const Value* value = input; moves_all(value->node());) {
      value = value->node()->input(0);
      if (elements(value) <= elements(best)) best = value;
    }
    if (best != input) result_.sources[node] = const_cast<Value*>(best);
  }

  static bool moves_all(const Node* node) {
    return node->outputs().size() == 1 && node->kind() != c10::prim::ListUnpack &&
           node->output()->type()->isSubtypeOf(*c10::TensorType::get()) &&
           (is_shape_only(node) || is_zero_padding(node));
  }

  void decide_norm(const LinearSite& site) {
    const Node* norm = site.norm;
    if (site.scale_only_fold || result_.norms.count(norm) > 0)
      return;  // the pad value would be a wrong code
    const auto readers = readers_of(norm->output(0), false);
    const InputQuantizer* quantizer = common_quantizer(readers, planned_, false);
    if (quantizer == nullptr || quantizer->form != CodeForm::kUniform) return;
    if (quantizer->per_token && !quantizer->per_channel()) return;  // it has nothing to carry
    result_.norms[norm] = quantizer;
    if (!quantizer->per_token) mark(norm->output(0), *quantizer);
  }

  void decide_linear(const Node* node, const LinearPlan& plan) {
    LinearDecision& decision = result_.linears[node];
    // The product of values on grids of groups gives floating point, as that of a weight alone.
    if (reads_float(plan) || plan.input.group_size > 0) return;
    if (const auto operands = operand_codes(node, plan.weight.codes.size(0))) {
      decision.operands = operands;
      for (const auto& reader : readers_of(node->output(), true)) {
        result_.codes.insert(reader.value);
      }
      return;
    }
    if (plan.input.per_token) return;  // its product gets the rows' grids first
    Node* activation = fused_activation(node);
    if (activation == nullptr) return;
    decision.activation = activation;
    const auto readers = readers_of(activation->output(), false);
    const InputQuantizer* quantizer = common_quantizer(readers, planned_);
    if (quantizer == nullptr || !fits_epilogue(*quantizer)) return;
    decision.product = ProductCodes{quantizer};
    mark(activation->output(), *quantizer);
  }

  static Node* fused_activation(const Node* node) {
    if (node->output()->uses().size() != 1) return nullptr;
    Node* user = node->output()->uses()[0].user;
    if (is_kind(user, "aten::relu")) return user;
    if (!is_kind(user, "aten::gelu")) return nullptr;
    const auto form = torch::jit::constant_as<std::string>(user->input(1));
    return form && (*form == "none" || *form == "tanh") ? user : nullptr;
  }

  /// The per-channel grids with which a Linear can write the codes of all its readers, when these
  /// are operands of planned attention products. Which channel belongs to which operand and head is
  /// read off channel numbers that are sent through the operators in between.
  std::optional<OperandCodes> operand_codes(const Node* node, std::int64_t channels) const {
    const auto readers = readers_of(node->output(), true);
    const auto shape = observed_.shapes.find(node->output());
    if (readers.empty() || shape == observed_.shapes.end()) return {};
    // Zeros between keys, say, would be codes of another number, and of no channel.
    if (!paddings_after(node->output(), true).empty()) return {};
    const at::Tensor marker = at::arange(channels, at::kDouble).expand(shape->second);
    OperandCodes codes;
    codes.multiplier = at::full({channels}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
    codes.factor = at::ones({channels}, at::kDouble);
    codes.zero_point = at::zeros({channels}, at::kDouble);
    struct Part {
      at::Tensor index, multiplier, zero_point;
    };
    std::vector<Part> parts;
    for (const auto& reader : readers) {
      const auto found = planned_.find(reader.node);
      const OperandQuantizer* operand =
          found == planned_.end() ? nullptr : operand_of(found->second, reader.offset);
      if (operand == nullptr || operand->per_token) return {};
      if (!parts.empty() && operand->max_code() != codes.max_code) return {};
      codes.max_code = operand->max_code();
      codes.shift = operand_shift(*operand);
      const auto arrived = send_marker(observed_, node->output(), marker, reader.value);
      if (!arrived) return {};
      const auto spread = [&](const at::Tensor& grid, double factor) {
        return (grid.to(at::kDouble) * factor).expand(arrived->sizes()).flatten();
      };
      parts.push_back({arrived->flatten().to(at::kLong), spread(operand->multiplier, reader.factor),
                       spread(operand->zero_point, 1)});
      codes.multiplier.index_put_({parts.back().index}, parts.back().multiplier);
      codes.factor.index_fill_(0, parts.back().index, reader.factor);
      codes.zero_point.index_put_({parts.back().index}, parts.back().zero_point);
    }
    for (const auto& part : parts) {  // a channel with two readers needs one grid for both
      if (!at::equal(codes.multiplier.index({part.index}), part.multiplier) ||
          !at::equal(codes.zero_point.index({part.index}), part.zero_point)) {
        return {};
      }
    }
    codes.multiplier.nan_to_num_(1.0);  // channels that nobody reads
    return codes;
  }

  void decide_attend(const Node* node, const PlannedSite& site) {
    AttendDecision& decision = result_.attends[node];
    find_raw_scores(node, site, decision);
    const auto readers = readers_of(node->output(), false);
    const InputQuantizer* quantizer = common_quantizer(readers, planned_);
    if (quantizer == nullptr || quantizer->form != CodeForm::kUniform) return;
    if (quantizer->multiplier.numel() == 1 && quantizer->offset.numel() == 1) {
      decision.multiplier = quantizer->multiplier.view({1});
      decision.offset = quantizer->offset.view({1});
    } else if (!spread_over_heads(site, readers, *quantizer, decision)) {
      return;
    }
    decision.next = quantizer;
    mark(node->output(), *quantizer);
  }

  /// Brings vectors over the next Linear's channels into the order [H, 1, d] of the product. Axis
  /// -3 is the heads where the operands have them; where they do not, it may be the batch.
  bool spread_over_heads(const PlannedSite& site, const std::vector<Reader>& readers,
                         const InputQuantizer& quantizer, AttendDecision& decision) const {
    const Node* node = site.site->node;
    const auto found = observed_.shapes.find(node->output());
    if (found == observed_.shapes.end() || found->second.size() < 2) return false;
    const auto& shape = found->second;
    const std::int64_t heads =
        std::get<AttendSite>(site.site->kind).heads ? shape[shape.size() - 3] : 1;
    const std::int64_t depth = shape.back();
    const at::Tensor numbers = at::arange(heads * depth, at::kDouble).view({heads, 1, depth});
    at::Tensor order;
    for (const auto& reader : readers) {
      const auto arrived =
          send_marker(observed_, node->output(), numbers.expand(shape), reader.value);
      if (!arrived || arrived->size(-1) != heads * depth) return false;
      const at::Tensor rows = arrived->reshape({-1, heads * depth});
      if (!at::equal(rows, rows.slice(0, 0, 1).expand_as(rows))) return false;
      const at::Tensor row = rows.select(0, 0).to(at::kLong);
      if (order.defined() && !at::equal(order, row)) return false;
      order = row;
    }
    const auto spread = [&](const at::Tensor& vector) {
      at::Tensor result = at::zeros({heads * depth}, at::kFloat);
      result.index_put_({order}, vector.expand({heads * depth}));
      return result.view({heads, 1, depth});
    };
    if (!at::equal(std::get<0>(order.sort()), at::arange(heads * depth))) return false;
    decision.multiplier = spread(quantizer.multiplier);
    decision.offset = spread(quantizer.offset);
    return true;
  }

  /// Scores that reach the softmax through constant factors alone need no scaling of their own.
  void find_raw_scores(const Node* node, const PlannedSite& site, AttendDecision& decision) const {
    const Node* softmax = std::get<AttendSite>(site.site->kind).softmax;
    if (!site.attend()->row_maximum || node->input(0) != softmax->output()) return;
    const Value* value = softmax->input(0);
    double factor = 1.0;
    std::vector<NumberScaling> numbers;
    while (value->uses().size() == 1) {
      const auto scores = planned_.find(value->node());
      if (scores != planned_.end() && scores->second.scores() != nullptr) {
        if (scores->second.scores()->left.per_token) return;  // rows and columns have scales
        decision.raw_scores = scores->second.site->node;
        decision.score_factor = factor;
        decision.score_numbers = std::move(numbers);
        return;
      }
      if (const auto scaling = constant_scaling(value->node())) {
        factor *= scaling->factor;
        value = value->node()->input(scaling->operand);
      } else if (const auto number = number_scaling(value->node(), observed_.numbers)) {
        numbers.push_back(*number);
        value = value->node()->input(number->operand);
      } else {
        return;
      }
    }
  }

  const PlannedSites& planned_;
  const Observed& observed_;
  Decisions result_;
};

}  // namespace

std::int64_t zero_code(const InputQuantizer& quantizer) {
  const at::Tensor codes = encode(at::zeros({1}, at::kFloat), quantizer);
  return std::llround(product_codes(codes, quantizer)[0].item<double>());
}

Decisions decide(const PlannedSites& planned, const Observed& observed) {
  return Decider(planned, observed).run();
}

}  // namespace repquant
