#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>

#include <algorithm>

#include "artifact/dataflow.h"
#include "graph/normalize.h"
#include "graph/rewrite.h"
#include "runtime/fuse_token.h"

namespace repquant {

using torch::jit::NamedValue;
using torch::jit::Node;
using torch::jit::Value;

std::vector<NamedValue> NormPattern::arguments() const {
  return {node->input(0), weight, bias, epsilon, root_mean_square};
}

std::optional<NormPattern> norm_of(Node* node) {
  NormPattern norm{.node = node};
  norm.root_mean_square = is_kind(node, "aten::rms_norm");
  if (!norm.root_mean_square && !is_kind(node, "aten::layer_norm")) return {};
  const auto epsilon = torch::jit::toIValue(named_input(norm.node, "eps"));
  norm.weight = constant_tensor(named_input(norm.node, "weight"));
  // A weight has the shape of what is normalised.
  if (!epsilon || !epsilon->isDouble() || !norm.weight.defined() || norm.weight.dim() != 1 ||
      norm.weight.scalar_type() != at::kFloat) {
    return {};
  }
  norm.epsilon = epsilon->toDouble();
  if (norm.root_mean_square) {
    norm.bias = at::zeros_like(norm.weight);
  } else {
    norm.bias = constant_tensor(named_input(norm.node, "bias"));
    if (!norm.bias.defined()) return {};
  }
  return norm;
}

namespace {

/// The constant vector of `symbol`(value, vector), or none.
at::Tensor vector_operand(const Node* node, const char* symbol) {
  if (!is_kind(node, symbol)) return {};
  const at::Tensor vector = constant_tensor(node->input(1));
  const bool fits = vector.defined() && vector.dim() == 1 && vector.scalar_type() == at::kFloat;
  return fits ? vector : at::Tensor();
}

std::optional<ChannelScale> scale_before(Value* value) {
  ChannelScale scale;
  if (value->uses().size() != 2) return {};
  Node* node = value->node();
  if (is_kind(node, "aten::add") && node->inputs().size() == 3 && is_one(node->input(2))) {
    scale.offset = vector_operand(node, "aten::add");
    if (!scale.offset.defined() || node->input(0)->uses().size() != 1) return {};
    scale.nodes.push_back(node);
    node = node->input(0)->node();
  }
  scale.multiplier = vector_operand(node, "aten::mul");
  if (!scale.multiplier.defined()) return {};
  if (scale.offset.defined() && scale.offset.numel() != scale.multiplier.numel()) return {};
  scale.nodes.push_back(node);
  scale.x = node->input(0);
  return scale;
}

NamedValue optional_tensor(const at::Tensor& tensor) {
  return NamedValue(tensor.defined() ? c10::IValue(tensor) : c10::IValue());
}

}  // namespace

NamedValue TokenCalls::codebook() const {
  return optional_tensor(learned() ? levels : at::Tensor());
}

NamedValue TokenCalls::multiplier() const {
  return optional_tensor(scale ? scale->multiplier : at::Tensor());
}

NamedValue TokenCalls::offset() const {
  return optional_tensor(scale ? scale->offset : at::Tensor());
}

Value* TokenCalls::source() const { return scale ? scale->x : quantize.argument(0); }

std::optional<TokenCalls> token_calls(const FusionContext& context, const SubmoduleCall& quantize) {
  const auto range = context.call_of(quantize.argument(1)->node());
  if (!range || range->state->kind != "TokenRange" || range->argument(0) != quantize.argument(0)) {
    return {};
  }
  return TokenCalls{.range = *range,
                    .quantize = quantize,
                    .top = quantize.state->integer("top"),
                    .levels = quantize.state->tensor("levels"),
                    .scale = scale_before(quantize.argument(0))};
}

std::optional<TokenCalls> only_token_calls(const FusionContext& context, const Value* value) {
  const Value* read = value;
  while (
      read->uses().size() == 1 && read->uses()[0].user->outputs().size() == 1 &&
      (is_kind(read->uses()[0].user, "aten::mul") || is_kind(read->uses()[0].user, "aten::add"))) {
    read = read->uses()[0].user->output();
  }
  if (read->uses().size() != 2) return {};
  for (const auto& use : read->uses()) {
    if (use.user->owningBlock() != value->node()->owningBlock()) return {};
    const auto call = context.call_of(use.user);
    if (call && call->state->kind == "TokenQuantize" && use.offset == 1) {
      const auto calls = token_calls(context, *call);
      return calls && calls->source() == value ? calls : std::nullopt;
    }
  }
  return {};
}

void replace_token_calls(FusionContext& context, const TokenCalls& grid, Value* codes, Value* rows,
                         const std::string& module) {
  context.replace(grid.range.node->output(), rows, {.module = module});
  context.replace(grid.quantize.node->output(), codes,
                  {.module = module, .levels = grid.learned() ? grid.levels : at::Tensor()});
  grid.quantize.node->destroy();
  grid.range.node->destroy();
  if (!grid.scale) return;
  for (Node* node : grid.scale->nodes) node->destroy();
}

bool fuse_token_quantize(FusionContext& context, const SubmoduleCall& quantize) {
  const auto grid = token_calls(context, quantize);
  if (!grid) return leave_token_call(context, quantize);
  const auto norm = norm_of(grid->source()->node());
  // The norm's output is given back where others read it too, or channels are scaled after it.
  const bool kept = norm && (grid->scale || reader_count(grid->source()) != 2);
  const char* name = kept   ? "repquant::norm_and_tokens"
                     : norm ? "repquant::norm_tokens"
                            : "repquant::token_quantize";
  std::vector<NamedValue> arguments{grid->source()};
  if (norm) arguments = norm->arguments();
  arguments.insert(arguments.end(), {grid->top, grid->codebook()});
  if (kept || !norm) arguments.insert(arguments.end(), {grid->multiplier(), grid->offset()});
  Node* before = norm ? norm->node : grid->range.node;
  const std::vector<Value*> made = insert_with_outputs(before, name, arguments);
  Value *codes = made[made.size() - 2], *rows = made.back();
  context.report_fused_into(quantize.name, grid->range.name, name);
  const std::string with_scale =
      norm ? "with the norm and the scales of channels" : "with the scales of channels";
  context.report_fused(quantize.name, name, grid->scale ? with_scale : norm ? "with the norm" : "");
  replace_token_calls(context, *grid, codes, rows, quantize.name);
  if (norm) {
    // Codes have the norm's shape, for those that read no more.
    norm->node->output(0)->replaceAllUsesWith(kept ? made.front() : codes);
    norm->node->destroy();
  }
  return true;
}

}  // namespace repquant
