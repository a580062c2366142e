// Batch normalisation at inference is a factor and an addend for each channel: part of the weight
// and the bias in front of it.
#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <optional>

#include "graph/convolution.h"
#include "graph/normalize.h"
#include "graph/rank.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

struct ChannelMap {
  at::Tensor factor, addend;  // float64 [C]
};

/// What a batch_norm does to each channel; nothing unless all of it is constant.
std::optional<ChannelMap> map_of(const Node* norm) {
  const auto training = torch::jit::constant_as<bool>(named_input(norm, "training"));
  const auto epsilon = torch::jit::constant_as<double>(named_input(norm, "eps"));
  const at::Tensor mean = constant_tensor(named_input(norm, "running_mean"));
  const at::Tensor variance = constant_tensor(named_input(norm, "running_var"));
  if (training.value_or(true) || !epsilon || !mean.defined() || !variance.defined()) return {};
  ChannelMap map;
  map.factor = (variance.to(at::kDouble) + *epsilon).rsqrt();
  for (const char* name : {"weight", "bias"}) {
    const Value* value = named_input(norm, name);
    if (!value->mustBeNone() && !constant_tensor(value).defined()) return {};
  }
  const at::Tensor gamma = constant_tensor(named_input(norm, "weight"));
  const at::Tensor beta = constant_tensor(named_input(norm, "bias"));
  if (gamma.defined()) map.factor = map.factor * gamma.to(at::kDouble);
  map.addend = -mean.to(at::kDouble) * map.factor;
  if (beta.defined()) map.addend = map.addend + beta.to(at::kDouble);
  return map;
}

/// Its output's axis 1 is that of the rows of its weight.
bool has_channels_second(const Node* node) {
  if (is_kind(node, "aten::linear")) return rank_of(node->output()) == std::int64_t{2};
  return is_convolution(node);
}

bool fold(Node* norm) {
  Node* product = norm->input(0)->node();
  if (!has_channels_second(product) || product->output()->uses().size() != 1) return false;
  const at::Tensor weight = constant_tensor(product->input(1));
  const at::Tensor bias = constant_tensor(product->input(2));
  if (!weight.defined() || weight.scalar_type() != at::kFloat) return false;
  if (!bias.defined() && !product->input(2)->mustBeNone()) return false;
  const auto map = map_of(norm);
  if (!map || map->factor.numel() != weight.size(0)) return false;
  std::vector<std::int64_t> rows(static_cast<std::size_t>(weight.dim()), 1);
  rows[0] = weight.size(0);
  at::Tensor addend = map->addend;
  if (bias.defined()) addend = addend + bias.to(at::kDouble) * map->factor;
  const at::Tensor folded = weight.to(at::kDouble) * map->factor.view(rows);
  product->replaceInput(1, insert_tensor(product, folded.to(at::kFloat)));
  product->replaceInput(2, insert_tensor(product, addend.to(at::kFloat)));
  norm->output()->replaceAllUsesWith(product->output());
  norm->destroy();
  return true;
}

}  // namespace

void fold_batch_norms(std::shared_ptr<Graph>& graph) {
  bool changed = false;
  for (Node* node : all_nodes(*graph)) {
    if (is_kind(node, "aten::batch_norm") && fold(node)) changed = true;
  }
  if (changed) clean_graph(graph);
}

}  // namespace repquant
