#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>

#include <algorithm>

#include "artifact/dataflow.h"
#include "graph/normalize.h"
#include "graph/rewrite.h"
#include "ops/operators.h"
#include "runtime/fuse.h"

namespace repquant {
namespace {

using torch::jit::NamedValue;
using torch::jit::Node;
using torch::jit::Value;

/// A norm over the last dimension with constants, which the operator computes on its way.
struct NormPattern {
  Node* node = nullptr;
  at::Tensor weight{}, bias{};
  double epsilon = 0.0;
  bool root_mean_square = false;
};

/// The norm that gives `value` if, but for its shape, only the two calls of a grid per token read it.
std::optional<NormPattern> norm_before(const Value* value) {
  NormPattern norm{.node = const_cast<Node*>(value->node())};
  norm.root_mean_square = is_kind(norm.node, "aten::rms_norm");
  if (!norm.root_mean_square && !is_kind(norm.node, "aten::layer_norm")) return {};
  const auto& uses = value->uses();
  if (std::count_if(uses.begin(), uses.end(),
                    [](const auto& use) { return !reads_size_only(use.user); }) != 2) {
    return {};
  }
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

/// Inserts an operator that gives codes and the grids of rows.
std::pair<Value*, Value*> insert_pair(Node* before, const char* name,
                                      const std::vector<NamedValue>& arguments) {
  Node* tuple = insert_operator(before, name, arguments)->node();
  const std::pair<Value*, Value*> outputs{tuple->input(0), tuple->input(1)};
  tuple->destroy();
  return outputs;
}

}  // namespace

bool fuse_token_quantize(FusionContext& context, const SubmoduleCall& quantize) {
  const auto range = context.call_of(quantize.argument(1)->node());
  if (!range || range->state->kind != "TokenRange" ||
      range->argument(0) != quantize.argument(0)) {
    return leave_token_call(context, quantize);
  }
  const at::Tensor levels = quantize.state->tensor("levels");
  const std::int64_t top = quantize.state->integer("top");
  const bool learned = levels.numel() != top + 1;
  const c10::IValue none;
  const NamedValue codebook = learned ? NamedValue(c10::IValue(levels)) : NamedValue(none);
  const auto norm = norm_before(quantize.argument(0));
  const auto [codes, rows] =
      norm ? insert_pair(norm->node, "repquant::norm_tokens",
                         {norm->node->input(0), norm->weight, norm->bias, norm->epsilon,
                          norm->root_mean_square, top, codebook})
           : insert_pair(range->node, "repquant::token_quantize",
                         {quantize.argument(0), top, codebook});
  const char* name = norm ? "repquant::norm_tokens" : "repquant::token_quantize";
  context.replace(range->node->output(), rows, {.module = quantize.name, .levels = {}});
  context.replace(quantize.node->output(), codes,
                  {.module = quantize.name, .levels = learned ? levels : at::Tensor()});
  context.report_fused(range->name, name, "fused into " + quantize.name);
  context.report_fused(quantize.name, name, norm ? "with the norm" : "");
  quantize.node->destroy();
  range->node->destroy();
  if (norm) {
    norm->node->output(0)->replaceAllUsesWith(codes);  // what reads its shape
    norm->node->destroy();
  }
  return true;
}

}  // namespace repquant
