#include "graph/site.h"

#include "base/overloaded.h"

namespace repquant {

SiteKind kind_of(const Site& site) {
  return std::visit(
      Overloaded{[](const LinearSite& linear) {
                   if (linear.of_patches) return SiteKind::kPatchEmbedding;
                   return linear.windows != nullptr ? SiteKind::kConvolution : SiteKind::kLinear;
                 },
                 [](const ScoresSite&) { return SiteKind::kScores; },
                 [](const AttendSite&) { return SiteKind::kAttend; },
                 [](const EmbeddingSite&) { return SiteKind::kEmbedding; },
                 [](const ConvolutionSite&) { return SiteKind::kGroupedConvolution; }},
      site.kind);
}

at::Tensor constant_of(const Site& site) {
  return std::visit(
      Overloaded{[](const LinearSite& linear) { return linear.weight; },
                 [](const ScoresSite&) { return at::Tensor(); },
                 [](const AttendSite&) { return at::Tensor(); },
                 [](const EmbeddingSite& embedding) { return embedding.table; },
                 [](const ConvolutionSite& convolution) { return convolution.weight; }},
      site.kind);
}

}  // namespace repquant
