#include "artifact/lower_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <cstdint>

#include "artifact/lowered_graph.h"
#include "graph/rewrite.h"
#include "plan/simulate.h"
#include "tensor/cache_codes.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

Value* transposed(Value* x, Node* before) {
  torch::jit::WithInsertPoint guard(before);
  return before->owningGraph()->insert(c10::aten::transpose,
                                       {x, std::int64_t{-2}, std::int64_t{-1}});
}

struct TokenOperand {
  Value* codes;  // int8 [.., d]
  Value* scale;  // [.., 1]
};

TokenOperand token_operand(LoweredGraph& lowered, Value* rows, const OperandQuantizer& operand,
                           Node* before, const std::string& path) {
  if (operand.multiplier.numel() > 1) {
    rows = lowered.apply(c10::aten::mul, rows, operand.multiplier, before);
  }
  if (operand.zero_point.numel() > 1) {
    rows = lowered.apply(c10::aten::add, rows, operand.zero_point, before);
  }
  std::string name;
  TokenOperand result{};
  result.scale = lowered.call(lowered.factory.row_scale(operand_top(operand.bits)), path + "_scale",
                              {rows}, before, &name);
  result.codes = lowered.call(lowered.factory.row_quantize(operand.bits), path,
                              {rows, result.scale}, before, &name);
  return result;
}

/// The codes that the simulation computes of an operand.
void emit_codes(LoweredGraph& lowered, const TokenOperand& made, const Value* original,
                const std::string& path, const OperandQuantizer& operand, bool of_keys) {
  Emission& emission = lowered.emit(made.codes, original, path, Emission::Kind::kCodes);
  emission.reference = [operand, of_keys](const at::Tensor& x) {
    return operand_rows(of_keys ? x.transpose(-2, -1) : x, operand).codes.to(at::kChar);
  };
}

}  // namespace

LoweredSite lower_token_scores(LoweredGraph& lowered, const Node* original, const ScoresPlan& plan,
                               const std::string& path) {
  LoweredSite form{{}, path};
  form.input = SiteInput::kOperands;
  form.output = SiteOutput::kFloat;
  Node* scores = lowered.copy.node(original);
  const TokenOperand left =
      token_operand(lowered, scores->input(0), plan.left, scores, path + "_left");
  const TokenOperand right = token_operand(lowered, transposed(scores->input(1), scores),
                                           plan.right, scores, path + "_right");
  emit_codes(lowered, left, original->input(0), path, plan.left, false);
  emit_codes(lowered, right, original->input(1), path, plan.right, true);
  ScoresState state;
  state.left_zero = state.right_zero = at::zeros({1});
  state.left_bits = state.right_bits = plan.left.bits;
  state.scale = plan.scale();
  state.raw = true;
  Value* output = lowered.call(lowered.factory.scores(state), path,
                               {left.codes, transposed(right.codes, scores)}, scores, &form.module);
  for (Value* scale : {left.scale, transposed(right.scale, scores)}) {
    torch::jit::WithInsertPoint guard(scores);
    output = lowered.copy.graph->insert(c10::aten::mul, {output, scale});
  }
  scores->output()->replaceAllUsesWith(output);
  return form;
}

void lower_cache(LoweredGraph& lowered, const Node* original) {
  const bool writes = is_kind(original, kCacheQuantizeOp);
  if (!writes && !is_kind(original, kCacheDequantizeOp)) return;
  Node* node = lowered.copy.node(original);
  const std::string path = writes ? "kept_codes" : "kept_values";
  std::string name;
  Value* output =
      lowered.call(writes ? lowered.factory.cache_quantize() : lowered.factory.cache_dequantize(),
                   path, {node->input(0)}, node, &name);
  if (!writes) lowered.emit(output, original->output(), path, Emission::Kind::kRounded);
  node->output()->replaceAllUsesWith(output);
}

}  // namespace repquant
