#include "runtime/score_chain.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>

#include <algorithm>

#include "graph/rewrite.h"
#include "graph/value_facts.h"

namespace repquant {
namespace {

using torch::jit::NamedValue;
using torch::jit::Node;
using torch::jit::Value;
using Kind = ScoreStep::Kind;

/// From here on a number hides any score that is added to it, in float32.
constexpr double kAbsorbing = -1e30;

bool is_tensor(const Value* value) { return value->type()->isSubtypeOf(*c10::TensorType::get()); }

/// Without axes: others may widen what they are added to.
std::optional<double> scalar_constant(const Value* value) {
  const at::Tensor tensor = constant_tensor(value);
  return tensor.defined() && tensor.dim() > 0 ? std::nullopt : constant_number(value);
}

bool is_absorbing(const Value* value) {
  const auto number = scalar_constant(value);
  return number && *number <= kAbsorbing;
}

/// The number that scores are scaled by: a number, or a constant without axes; null for anything
/// else, and where the largest score could become the smallest.
Value* number_behind(Value* value) {
  if (!is_never_negative(value)) return nullptr;
  if (value->type()->isSubtypeOf(*c10::NumberType::get())) return value;
  const auto number = scalar_constant(value);
  if (!number) return nullptr;
  torch::jit::WithInsertPoint guard(value->node());
  return value->owningGraph()->insertConstant(*number);
}

/// Positive constants [.., H, 1, 1], equal for all that stands in front of H; undefined for
/// anything else.
at::Tensor constants_of_heads(const Value* value) {
  const at::Tensor constant = constant_tensor(value);
  if (!constant.defined() || constant.dim() < 3 || !constant.is_floating_point() ||
      constant.size(-1) != 1 || constant.size(-2) != 1 || constant.size(-3) != constant.numel() ||
      constant.le(0.0).any().item<bool>()) {
    return {};
  }
  return constant.to(at::kFloat).reshape({-1, 1, 1});
}

/// The step that `node` is of scores in its input `operand`; none if the chain has no such.
std::optional<ScoreStep> step_of(Node* node, std::size_t operand) {
  const bool first = operand == 0, divides = is_kind(node, "aten::div");
  ScoreStep step{Kind::kNumber, node, operand};
  if ((divides || is_kind(node, "aten::mul")) && node->inputs().size() == 2) {
    step.other = first ? number_behind(node->input(1)) : nullptr;
    if (step.other != nullptr) return step;
    step.kind = Kind::kHeads;
    step.heads = divides && !first ? at::Tensor() : constants_of_heads(node->input(1 - operand));
    if (step.heads.defined() && divides) step.heads = step.heads.reciprocal();
    return step.heads.defined() ? std::optional(step) : std::nullopt;
  }
  if ((is_kind(node, "aten::view") || is_kind(node, "aten::reshape")) && first) {
    step.kind = Kind::kReshape;
    return step;
  }
  const bool subtracts = is_kind(node, "aten::sub");
  if ((subtracts || is_kind(node, "aten::add")) && node->inputs().size() == 3 && operand <= 1 &&
      is_one(node->input(2)) && is_tensor(node->input(1)) && (first || !subtracts)) {
    step.kind = subtracts ? Kind::kSubtract : Kind::kAdd;
    step.other = node->input(1 - operand);
    return step;
  }
  if (is_kind(node, "aten::masked_fill") && first && is_absorbing(node->input(2))) {
    step.kind = Kind::kFill;
    step.other = node->input(1);
    step.filled = node->input(2);
    return step;
  }
  if (is_kind(node, "aten::where") && node->inputs().size() == 3 && operand >= 1 &&
      is_absorbing(node->input(3 - operand))) {
    step.kind = operand == 1 ? Kind::kKeep : Kind::kFill;
    step.other = node->input(0);
    step.filled = node->input(3 - operand);
    return step;
  }
  return {};
}

/// Behind scores whose operands have a scale for each token: those scales.
bool find_token_scales(const FusionContext& context, Node* node, ScoreChain& chain) {
  const auto row_scale = [&](Value* value) {
    const auto call = context.call_of(value->node());
    return call && call->state->kind == "RowScale" ? value : nullptr;
  };
  if (!is_kind(node, "aten::mul") || !is_kind(node->input(0)->node(), "aten::mul")) return false;
  Node* inner = node->input(0)->node();
  const auto call = context.call_of(inner->input(0)->node());
  if (!call || call->state->kind != "Scores" || !call->state->flag("raw")) return false;
  if (reader_count(inner->output()) != 1 || reader_count(call->node->output()) != 1) return false;
  Node* of_keys = node->input(1)->node();
  if (!swaps_last(of_keys)) return false;
  chain.query_scale = row_scale(inner->input(1));
  chain.key_scale = row_scale(of_keys->input(0));
  if (chain.query_scale == nullptr || chain.key_scale == nullptr) return false;
  chain.scores = call;
  chain.scale_nodes = {inner, node};
  return true;
}

/// Extends `chain`, from the softmax backwards, to a call of Scores; false (and `chain` as it was)
/// if there is none. The scores may stand on either side of a sum.
bool find_scores(const FusionContext& context, const torch::jit::Block* block, Value* value,
                 ScoreChain& chain) {
  Node* node = value->node();
  if (reader_count(value) != 1 || node->owningBlock() != block) return false;
  if (const auto call = context.call_of(node)) {
    if (call->state->kind == "Scores") chain.scores = call;
    return chain.scores.has_value();
  }
  if (node->kind() == c10::prim::Param) return false;
  if (find_token_scales(context, node, chain)) return true;
  for (std::size_t operand = 0; operand < node->inputs().size(); ++operand) {
    if (!is_tensor(node->input(operand))) continue;
    const auto step = step_of(node, operand);
    if (!step) continue;
    ScoreChain longer = chain;
    longer.steps.push_back(*step);
    if (!find_scores(context, block, node->input(operand), longer)) continue;
    chain = std::move(longer);
    return true;
  }
  return false;
}

bool is_scaling(const ScoreStep& step) {
  return step.kind == Kind::kNumber || step.kind == Kind::kHeads;
}

bool is_reshape(const ScoreStep& step) { return step.kind == Kind::kReshape; }

/// Scores in another shape come back, or the keys' shape would not be theirs; and heads are where
/// the products have them.
bool keeps_shape(const std::vector<ScoreStep>& steps) {
  if (std::count_if(steps.begin(), steps.end(), is_reshape) % 2 != 0) return false;
  const auto reshaped = std::find_if(steps.begin(), steps.end(), is_reshape);
  return std::none_of(reshaped, steps.end(),
                      [](const ScoreStep& step) { return step.kind == Kind::kHeads; });
}

/// What the step and those before it, which add `sum` or nothing, add to scores, as a value before
/// `before`. What fills takes the place of the sum: a row that two masks hide throughout is as even
/// as one that one hides, which their sum would not be.
Value* mask_of(const ScoreStep& step, Value* sum, Node* before) {
  const bool fills = step.kind == Kind::kFill || step.kind == Kind::kKeep;
  if (fills) {
    const NamedValue rest = sum == nullptr ? NamedValue(0.0) : NamedValue(sum);
    const NamedValue filled(*scalar_constant(step.filled));
    return step.kind == Kind::kFill
               ? insert_operator(before, "aten::where", {step.other, filled, rest})
               : insert_operator(before, "aten::where", {step.other, rest, filled});
  }
  if (sum != nullptr) {
    const char* kind = step.kind == Kind::kAdd ? "aten::add" : "aten::sub";
    return insert_operator(before, kind, {sum, step.other});
  }
  if (step.kind == Kind::kAdd) return step.other;
  return insert_operator(before, "aten::neg", {step.other});
}

/// Zeros in the shape of the scores, before them.
Value* zero_scores(const SubmoduleCall& scores) {
  static const auto kZeros = compile_function(
      "def zeros(q, k):\n  return torch.zeros(q.shape[:-1] + [k.size(-1)])\n", "zeros");
  torch::jit::WithInsertPoint guard(scores.node);
  return torch::jit::insertGraph(*scores.node->owningGraph(), *kZeros,
                                 {scores.argument(0), scores.argument(1)})[0];
}

}  // namespace

std::size_t ScoreChain::scalings() const {
  const auto end = std::find_if_not(steps.begin(), steps.end(), is_scaling);
  return static_cast<std::size_t>(end - steps.begin());
}

bool ScoreChain::only_masks() const {
  return std::none_of(steps.begin() + static_cast<std::ptrdiff_t>(scalings()), steps.end(),
                      [](const ScoreStep& step) { return is_scaling(step) || is_reshape(step); }) &&
         std::none_of(steps.begin(), steps.end(),
                      [](const ScoreStep& step) {
                        return step.node->input(step.operand)->uses().size() != 1;
                      }) &&
         std::none_of(scale_nodes.begin(), scale_nodes.end(),
                      [](const Node* node) { return node->input(0)->uses().size() != 1; });
}

ScoreChain match_scores(const FusionContext& context, const SubmoduleCall& attend) {
  ScoreChain chain;
  find_scores(context, attend.node->owningBlock(), attend.argument(0), chain);
  std::reverse(chain.steps.begin(), chain.steps.end());
  return keeps_shape(chain.steps) ? chain : ScoreChain();
}

Value* score_factor(const ScoreChain& chain, Value* start, Node* before) {
  Value* product = start;
  for (const ScoreStep& step : chain.steps) {
    if (step.kind != Kind::kNumber) continue;
    product = insert_operator(before, is_kind(step.node, "aten::div") ? "aten::div" : "aten::mul",
                              {product, step.other});
  }
  return product;
}

at::Tensor score_scale(const ScoreChain& chain, at::Tensor scale) {
  for (const ScoreStep& step : chain.steps) {
    if (step.kind == Kind::kHeads) scale = scale * step.heads;
  }
  return scale;
}

ScoreMask score_mask(const ScoreChain& chain, const SubmoduleCall& attend) {
  ScoreMask mask;
  std::size_t unread = chain.steps.size();
  if (chain.only_masks()) {
    for (std::size_t i = chain.scalings(); i < chain.steps.size(); ++i) {
      mask.value = mask_of(chain.steps[i], mask.value, attend.node);
    }
  } else {
    // The steps behind the first scalings stay, from zeros in the place of the scores; so does who
    // reads the scores' shape.
    unread = chain.scalings();
    Value* zeros = zero_scores(*chain.scores);
    for (std::size_t i = 0; i < unread; ++i)
      chain.steps[i].node->output()->replaceAllUsesWith(zeros);
    for (Node* node : chain.scale_nodes) node->output()->replaceAllUsesWith(zeros);
    chain.scores->node->output()->replaceAllUsesWith(zeros);
    mask.value = unread < chain.steps.size() ? attend.argument(0) : nullptr;
  }
  for (std::size_t i = unread; i-- > 0;) mask.unread.push_back(chain.steps[i].node);
  mask.unread.insert(mask.unread.end(), chain.scale_nodes.rbegin(), chain.scale_nodes.rend());
  mask.unread.push_back(chain.scores->node);
  return mask;
}

}  // namespace repquant
