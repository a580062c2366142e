#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>

#include <cmath>

#include "artifact/dataflow.h"
#include "graph/rewrite.h"
#include "runtime/fuse.h"

namespace repquant {
namespace {

using torch::jit::NamedValue;
using torch::jit::Node;
using torch::jit::Value;

/// From integer scores to the softmax: numbers that scale them, then masks that are added, perhaps
/// in another shape of the same elements, as shifted windows add theirs.
struct ScoreChain {
  std::optional<SubmoduleCall> scores;
  struct Number {
    Value* value;
    bool divides;
  };
  struct Mask {
    Value* value;
    bool boolean;  // masked_fill with -inf where true
  };
  std::vector<Number> numbers;  // from the softmax back to the scores
  std::vector<Mask> masks;
  std::vector<Node*> nodes;  // from the softmax back to the scores
  bool reshaped = false;
  /// Scales of queries [.., T, 1] and of keys [.., S, 1], which the products are multiplied by
  /// first, with as many nodes at the end; or null.
  Value *query_scale = nullptr, *key_scale = nullptr;
  std::size_t scale_nodes = 0;
};

bool is_number(const Value* value) {
  const auto& type = *value->type();
  return type.isSubtypeOf(*c10::NumberType::get());
}

/// The number that scores are scaled by: a number, or a constant without axes as tracing writes
/// Python's numbers; null for anything else.
Value* number_behind(Value* value) {
  if (is_number(value)) return value;
  const at::Tensor constant = constant_tensor(value);
  if (!constant.defined() || constant.dim() > 0) return nullptr;
  torch::jit::WithInsertPoint guard(value->node());
  return value->owningGraph()->insertConstant(constant.item<double>());
}

bool is_minus_infinity(const Value* value) {
  const auto constant = torch::jit::toIValue(value);
  return constant && constant->isScalar() &&
         constant->toScalar().toDouble() == -std::numeric_limits<double>::infinity();
}

bool is_one(const Value* value) {
  const auto constant = torch::jit::toIValue(value);
  return constant && constant->isScalar() && constant->toScalar().toDouble() == 1.0;
}

bool is_tensor(const Value* value) { return value->type()->isSubtypeOf(*c10::TensorType::get()); }

/// Adds one step back from the softmax, from `node` to its input `operand`; false if it is none
/// that the operator has.
bool step_back(Node* node, std::size_t operand, ScoreChain& chain) {
  const bool first = operand == 0;
  if ((is_kind(node, "aten::mul") || is_kind(node, "aten::div")) && node->inputs().size() == 2 &&
      first) {
    Value* number = number_behind(node->input(1));
    if (number != nullptr) chain.numbers.push_back({number, is_kind(node, "aten::div")});
    return number != nullptr;
  }
  if (!chain.numbers.empty()) return false;  // the operator adds masks after scaling
  if ((is_kind(node, "aten::view") || is_kind(node, "aten::reshape")) && first) {
    return chain.reshaped = true;
  }
  if (is_kind(node, "aten::add") && node->inputs().size() == 3 && operand <= 1 &&
      is_one(node->input(2)) && is_tensor(node->input(1))) {
    chain.masks.push_back({node->input(1 - operand), false});
    return true;
  }
  if (is_kind(node, "aten::masked_fill") && first && is_minus_infinity(node->input(2))) {
    chain.masks.push_back({node->input(1), true});
    return true;
  }
  return false;
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
  if (inner->output()->uses().size() != 1 || call->node->output()->uses().size() != 1) return false;
  Node* of_keys = node->input(1)->node();
  if (!swaps_last(of_keys)) return false;
  chain.query_scale = row_scale(inner->input(1));
  chain.key_scale = row_scale(of_keys->input(0));
  if (chain.query_scale == nullptr || chain.key_scale == nullptr) return false;
  chain.scores = call;
  chain.nodes.push_back(inner);
  chain.scale_nodes = 2;
  return true;
}

/// Extends `chain` back from `value` to a call of Scores; false (and `chain` as it was) if there is
/// none. A mask may stand on either side of its sum.
bool find_scores(const FusionContext& context, const torch::jit::Block* block, Value* value,
                 ScoreChain& chain) {
  Node* node = value->node();
  if (value->uses().size() != 1 || node->owningBlock() != block) return false;
  if (const auto call = context.call_of(node)) {
    if (call->state->kind == "Scores") chain.scores = call;
    return chain.scores.has_value();
  }
  if (node->kind() == c10::prim::Param) return false;
  ScoreChain scaled = chain;
  scaled.nodes.push_back(node);
  if (find_token_scales(context, node, scaled)) {
    chain = std::move(scaled);
    return true;
  }
  for (std::size_t operand = 0; operand < node->inputs().size(); ++operand) {
    ScoreChain longer = chain;
    if (!is_tensor(node->input(operand)) || !step_back(node, operand, longer)) continue;
    longer.nodes.push_back(node);
    if (!find_scores(context, block, node->input(operand), longer)) continue;
    chain = std::move(longer);
    return true;
  }
  return false;
}

ScoreChain match_scores(const FusionContext& context, const SubmoduleCall& attend) {
  ScoreChain chain;
  find_scores(context, attend.node->owningBlock(), attend.argument(0), chain);
  return chain;
}

bool is_integral(const at::Tensor& values) { return at::equal(values, at::round(values)); }

/// 0 logarithmic, 1 table, 2 uniform, as the operator numbers them; none if it has no such form.
std::optional<std::int64_t> softmax_code(const StoredState& state) {
  if (state.flag("uniform")) return 2;
  if (state.flag("u8_table")) return 1;
  const double steps = state.number("steps_per_octave");
  if (state.integer("bits") <= 4 && (steps == 1 || steps == 2)) return 0;
  return {};
}

std::string obstacle(const SubmoduleCall& attend, const ScoreChain& chain) {
  const StoredState& state = *attend.state;
  if (!state.flag("row_maximum")) return "probabilities with one scale per tensor";
  if (!softmax_code(state)) return "softmax grid without an integer form";
  if (!chain.scores) return "its softmax reads no scores, or not through scaling and masks alone";
  if (!is_integral(state.tensor("value_zero")) ||
      !is_integral(chain.scores->state->tensor("left_zero"))) {
    return "zero points that are no integers";
  }
  return "";
}

/// Product of the numbers, as a value before `before`.
Value* score_factor(const ScoreChain& chain, Value* start, Node* before) {
  Value* product = start;
  for (auto number = chain.numbers.rbegin(); number != chain.numbers.rend(); ++number) {
    product = insert_operator(before, number->divides ? "aten::div" : "aten::mul",
                              {product, number->value});
  }
  return product;
}

Value* additive_mask(const ScoreChain& chain, Node* before) {
  Value* sum = nullptr;
  for (auto mask = chain.masks.rbegin(); mask != chain.masks.rend(); ++mask) {
    Value* bias = mask->value;
    if (mask->boolean) {
      torch::jit::WithInsertPoint guard(before);
      Value* zeros = before->owningGraph()->insert(
          c10::Symbol::fromQualString("aten::zeros_like"), {mask->value},
          {NamedValue("dtype", static_cast<std::int64_t>(at::kFloat))});
      bias = insert_operator(before, "aten::masked_fill",
                             {zeros, mask->value, -std::numeric_limits<double>::infinity()});
    }
    sum = sum == nullptr ? bias : insert_operator(before, "aten::add", {sum, bias});
  }
  return sum;
}

/// Zeros in the shape of the scores, before them.
Value* zero_scores(const SubmoduleCall& scores) {
  static const auto kZeros = compile_function(
      "def zeros(q, k):\n  return torch.zeros(q.shape[:-1] + [k.size(-1)])\n", "zeros");
  torch::jit::WithInsertPoint guard(scores.node);
  return torch::jit::insertGraph(*scores.node->owningGraph(), *kZeros,
                                 {scores.argument(0), scores.argument(1)})[0];
}

/// Makes the chain begin with zeros, unscaled: what reaches the softmax then is the sum of the
/// masks. Leaves in `chain.nodes` what is not needed any more.
void begin_with_zeros(ScoreChain& chain) {
  // The scaling comes last.
  const std::size_t kept = chain.nodes.size() - chain.numbers.size() - chain.scale_nodes;
  Value* scaled =
      kept == chain.nodes.size() ? chain.scores->node->output() : chain.nodes[kept]->output();
  chain.nodes[kept - 1]->replaceInputWith(scaled, zero_scores(*chain.scores));
  chain.nodes.erase(chain.nodes.begin(), chain.nodes.begin() + static_cast<std::ptrdiff_t>(kept));
}

/// The keys [.., S, d] behind the right operand [.., d, S].
Value* keys(Value* right, Node* before) {
  if (swaps_last(right->node())) return right->node()->input(0);
  return insert_operator(before, "aten::transpose", {right, std::int64_t{-2}, std::int64_t{-1}});
}

/// True if whatever reads the output reorders its dimensions first. A reshape in between is one to
/// the same shape where F.scaled_dot_product_attention was: a view, whatever the order in memory.
bool is_reordered(const Value* output) {
  return std::all_of(output->uses().begin(), output->uses().end(), [](const auto& use) {
    return is_kind(use.user, "aten::transpose") || is_kind(use.user, "aten::permute") ||
           reads_size_only(use.user) ||
           (is_kind(use.user, "aten::reshape") && is_reordered(use.user->output()));
  });
}

}  // namespace

bool fuse_attention(FusionContext& context, const SubmoduleCall& attend) {
  ScoreChain chain = match_scores(context, attend);
  const StoredState& state = *attend.state;
  if (const std::string reason = obstacle(attend, chain); !reason.empty()) {
    context.report_portable(attend, reason);
    if (chain.scores) context.report_portable(*chain.scores, reason);
    return false;
  }
  const StoredState& scores = *chain.scores->state;
  Node* before = attend.node;
  Value* number = score_factor(chain, attend.argument(2), before);
  if (chain.reshaped) begin_with_zeros(chain);
  Value* mask = chain.reshaped ? attend.argument(0) : additive_mask(chain, before);
  const c10::IValue none;
  // Scores that are scaled by a module of their own still are integers for the operator.
  at::Tensor factor = state.tensor("factor");
  if (mask == nullptr && chain.query_scale == nullptr && !scores.flag("raw"))
    factor = factor * scores.tensor("scale");
  const std::int64_t max_code = (std::int64_t{1} << state.integer("bits")) - 1;
  Value* output = insert_operator(
      before, "repquant::attention",
      {chain.scores->argument(0), keys(chain.scores->argument(1), before), attend.argument(1),
       mask != nullptr ? NamedValue(mask) : NamedValue(none),
       scores.tensor("left_zero").to(at::kInt), state.tensor("value_zero").to(at::kInt),
       scores.tensor("scale"), factor, number, state.tensor("multiplier"), state.tensor("offset"),
       *softmax_code(state), state.number("steps_per_octave"), max_code, state.flag("zero_code"),
       state.integer("output_max_code"), is_reordered(attend.node->output()),
       NamedValue(chain.query_scale != nullptr ? NamedValue(chain.query_scale) : NamedValue(none)),
       NamedValue(chain.key_scale != nullptr ? NamedValue(chain.key_scale) : NamedValue(none))});
  const std::string with = mask == nullptr  ? ""
                           : chain.reshaped ? "with reshaped mask"
                                            : "with mask";
  context.report_fused(attend.name, "repquant::attention s8 x s8, u8 x s8", with);
  context.report_fused(chain.scores->name, "repquant::attention s8 x s8, u8 x s8",
                       "fused into " + attend.name);
  context.replace(attend.node->output(), output, {.module = attend.name, .behind_softmax = true});
  attend.node->destroy();
  for (Node* node : chain.nodes) node->destroy();
  chain.scores->node->destroy();
  return true;
}

}  // namespace repquant
