#include "graph/site.h"

#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <utility>

#include "base/overloaded.h"
#include "graph/graph_copy.h"
#include "graph/operator_kinds.h"
#include "graph/rewrite.h"

namespace repquant {

using torch::jit::Node;

SiteKind kind_of(const Site& site) {
  return std::visit(
      Overloaded{[](const LinearSite& linear) {
                   if (linear.of_patches) return SiteKind::kPatchEmbedding;
                   return linear.windows != nullptr ? SiteKind::kWindowedLinear : SiteKind::kLinear;
                 },
                 [](const ScoresSite& scores) {
                   return scores.softmax ? SiteKind::kScores : SiteKind::kProduct;
                 },
                 [](const AttendSite&) { return SiteKind::kAttend; },
                 [](const EmbeddingSite&) { return SiteKind::kEmbedding; },
                 [](const GroupedConvolutionSite&) { return SiteKind::kGroupedConvolution; }},
      site.kind);
}

void sort_by_place(std::vector<Site>& sites) {
  const auto place = [](const Site& site) {
    const auto* attend = std::get_if<AttendSite>(&site.kind);
    return attend != nullptr ? attend->softmax : site.node;
  };
  std::stable_sort(sites.begin(), sites.end(),
                   [&](const Site& a, const Site& b) { return place(a)->isBefore(place(b)); });
}

at::Tensor constant_of(const Site& site) {
  return std::visit(
      Overloaded{[](const LinearSite& linear) { return linear.weight; },
                 [](const ScoresSite&) { return at::Tensor(); },
                 [](const AttendSite&) { return at::Tensor(); },
                 [](const EmbeddingSite& embedding) { return embedding.table; },
                 [](const GroupedConvolutionSite& convolution) { return convolution.weight; }},
      site.kind);
}

void drop_constant(Site& site) {
  std::visit(
      Overloaded{[](LinearSite& linear) { linear.weight = at::Tensor(); }, [](ScoresSite&) {},
                 [](AttendSite&) {},
                 [](EmbeddingSite& embedding) { embedding.table = at::Tensor(); },
                 [](GroupedConvolutionSite& convolution) { convolution.weight = at::Tensor(); }},
      site.kind);
}

bool is_moved_linear(const torch::jit::Value* value) {
  for (const torch::jit::Node* node = value->node();; node = value->node()) {
    if (is_kind(node, "aten::linear")) return true;
    const bool scaled = (is_kind(node, "aten::mul") || is_kind(node, "aten::div")) &&
                        node->input(1)->node()->kind() == c10::prim::Constant;
    const bool moved = is_shape_only(node) || gives_parts(node) || scaled ||
                       is_kind(node, "prim::ListUnpack") || is_kind(node, "prim::TupleUnpack") ||
                       is_kind(node, "aten::__getitem__");
    if (!moved || node->inputs().empty()) return false;
    value = node->input(0);
  }
}

bool own_graph(Model& model, std::vector<Site>& sites) {
  if (model.graph.use_count() == 1) return false;
  const GraphCopy copy(*model.graph);
  const auto same = [&](const Node* node) { return node == nullptr ? nullptr : copy.node(node); };
  for (Site& site : sites) {
    site.node = same(site.node);
    if (auto* linear = std::get_if<LinearSite>(&site.kind)) {
      linear->norm = same(linear->norm);
      linear->windows = same(linear->windows);
    } else if (auto* attend = std::get_if<AttendSite>(&site.kind)) {
      attend->softmax = same(attend->softmax);
    }
  }
  DecomposedConvolutions convolutions;
  for (const Node* node : model.convolutions.patches) convolutions.patches.push_back(same(node));
  for (const auto& [node, first] : model.convolutions.windows) {
    convolutions.windows[same(node)] = same(first);
  }
  model.convolutions = std::move(convolutions);
  model.graph = copy.graph;
  return true;
}

}  // namespace repquant
