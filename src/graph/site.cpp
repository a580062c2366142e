#include "graph/site.h"

#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>

#include "base/overloaded.h"

namespace repquant {

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

}  // namespace repquant
