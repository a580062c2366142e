#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>

#include <cmath>

#include "artifact/dataflow.h"
#include "graph/rewrite.h"
#include "runtime/fuse.h"
#include "runtime/score_chain.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// What the operator takes in, but for the values.
struct Operands {
  Value *query = nullptr, *key = nullptr;
  Value* mask = nullptr;  // or null
  at::Tensor query_zero;  // int32
  at::Tensor score_scale, factor;
  Value* score_factor = nullptr;
  std::string note;
  std::vector<Node*> unread;  // to be destroyed in this order behind the call
};

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
  if (!is_integral(state.tensor("value_zero")) ||
      (chain.scores && !is_integral(chain.scores->state->tensor("left_zero")))) {
    return "zero points that are no integers";
  }
  return "";
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

Operands chain_operands(const ScoreChain& chain, const SubmoduleCall& attend) {
  const StoredState& scores = *chain.scores->state;
  Operands operands;
  operands.query = chain.scores->argument(0);
  operands.key = keys(chain.scores->argument(1), attend.node);
  operands.query_zero = scores.tensor("left_zero").to(at::kInt);
  operands.score_factor = score_factor(chain, attend.argument(2), attend.node);
  operands.score_scale = score_scale(chain, scores.tensor("scale"));
  ScoreMask mask = score_mask(chain, attend);
  operands.mask = mask.value;
  operands.unread = std::move(mask.unread);
  // Scores that are scaled by a module of their own still are integers for the operator.
  operands.factor = attend.state->tensor("factor");
  if (operands.mask == nullptr && chain.query_scale == nullptr && !scores.flag("raw")) {
    operands.factor = operands.factor * operands.score_scale;
  }
  operands.note = operands.mask == nullptr ? ""
                  : chain.only_masks()     ? "with mask"
                                           : "with what is added to its scores, computed apart";
  return operands;
}

/// Scores that come in another way are the mask of operands without channels.
Operands given_scores(const SubmoduleCall& attend) {
  static const auto kEmpty = compile_function(
      "def operands(scores):\n"
      "  return torch.empty([scores.size(-2), 0], dtype=1), "
      "torch.empty([scores.size(-1), 0], dtype=1)\n",
      "operands");
  Operands operands;
  Value* scores = attend.argument(0);
  {
    torch::jit::WithInsertPoint guard(attend.node);
    torch::jit::Graph& graph = *attend.node->owningGraph();
    const auto empty = torch::jit::insertGraph(graph, *kEmpty, {scores});
    operands.query = empty[0];
    operands.key = empty[1];
    operands.score_factor = graph.insertConstant(1.0);
  }
  operands.mask = scores;
  if (!is_one(attend.argument(2))) {
    operands.mask = insert_operator(attend.node, "aten::mul", {scores, attend.argument(2)});
  }
  operands.query_zero = at::zeros({1}, at::kInt);
  operands.score_scale = at::ones({1}, at::kFloat);
  operands.factor = attend.state->tensor("factor");
  operands.note = "with scores computed apart";
  return operands;
}

}  // namespace

bool fuse_attention(FusionContext& context, const SubmoduleCall& attend) {
  const ScoreChain chain = match_scores(context, attend);
  const StoredState& state = *attend.state;
  if (const std::string reason = obstacle(attend, chain); !reason.empty()) {
    context.report_portable(attend, reason);
    if (chain.scores) context.report_portable(*chain.scores, reason);
    return false;
  }
  const Operands operands = chain.scores ? chain_operands(chain, attend) : given_scores(attend);
  const std::int64_t max_code = (std::int64_t{1} << state.integer("bits")) - 1;
  Value* output = insert_operator(
      attend.node, "repquant::attention",
      {operands.query, operands.key, attend.argument(1), value_or_none(operands.mask),
       operands.query_zero, state.tensor("value_zero").to(at::kInt), operands.score_scale,
       operands.factor, operands.score_factor, state.tensor("multiplier"), state.tensor("offset"),
       *softmax_code(state), state.number("steps_per_octave"), max_code, state.flag("zero_code"),
       state.integer("output_max_code"), is_reordered(attend.node->output()),
       value_or_none(chain.query_scale), value_or_none(chain.key_scale)});
  context.report_fused(attend.name, "repquant::attention s8 x s8, u8 x s8", operands.note);
  if (chain.scores) {
    context.report_fused_into(attend.name, chain.scores->name,
                              "repquant::attention s8 x s8, u8 x s8");
  }
  context.replace(attend.node->output(), output, {.module = attend.name, .behind_softmax = true});
  attend.node->destroy();
  for (Node* node : operands.unread) node->destroy();
  return true;
}

}  // namespace repquant
