// The kinds of sites that repquant quantizes.
#pragma once

namespace repquant {

enum class SiteKind {
  kLinear,
  kPatchEmbedding,
  kScores,
  kAttend,
  kEmbedding,
  kConvolution,
  kGroupedConvolution
};

/// "linear", "patch_embedding", "scores", "attend", "embedding", "convolution",
/// "grouped_convolution": as written in reports and artifacts.
constexpr const char* name_of(SiteKind kind) {
  switch (kind) {
    case SiteKind::kLinear:
      return "linear";
    case SiteKind::kPatchEmbedding:
      return "patch_embedding";
    case SiteKind::kScores:
      return "scores";
    case SiteKind::kAttend:
      return "attend";
    case SiteKind::kEmbedding:
      return "embedding";
    case SiteKind::kConvolution:
      return "convolution";
    case SiteKind::kGroupedConvolution:
      return "grouped_convolution";
  }
  return "";
}

}  // namespace repquant
