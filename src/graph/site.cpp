#include "graph/site.h"

#include "base/overloaded.h"

namespace repquant {

SiteKind kind_of(const Site& site) {
  return std::visit(Overloaded{[](const LinearSite& linear) {
                                 return linear.of_patches ? SiteKind::kPatchEmbedding
                                                          : SiteKind::kLinear;
                               },
                               [](const ScoresSite&) { return SiteKind::kScores; },
                               [](const AttendSite&) { return SiteKind::kAttend; },
                               [](const EmbeddingSite&) { return SiteKind::kEmbedding; }},
                    site.kind);
}

at::Tensor constant_of(const Site& site) {
  return std::visit(Overloaded{[](const LinearSite& linear) { return linear.weight; },
                               [](const ScoresSite&) { return at::Tensor(); },
                               [](const AttendSite&) { return at::Tensor(); },
                               [](const EmbeddingSite& embedding) { return embedding.table; }},
                    site.kind);
}

}  // namespace repquant
