// The kinds of sites that repquant quantizes.
#pragma once

#include <optional>
#include <string_view>

namespace repquant {

enum class SiteKind {
  kLinear,
  kPatchEmbedding,
  kScores,
  kAttend,
  kEmbedding,
  kWindowedLinear,
  kGroupedConvolution,
  kProduct
};

/// "linear", "patch_embedding", "scores", "attend", "embedding", "convolution",
/// "grouped_convolution", "product": as written in reports and artifacts.
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
    case SiteKind::kWindowedLinear:
      return "convolution";
    case SiteKind::kGroupedConvolution:
      return "grouped_convolution";
    case SiteKind::kProduct:
      return "product";
  }
  return "";
}

/// The kind of that name, or none.
constexpr std::optional<SiteKind> find_site_kind(std::string_view name) {
  for (int i = 0; *name_of(static_cast<SiteKind>(i)) != '\0'; ++i) {
    if (name == name_of(static_cast<SiteKind>(i))) return static_cast<SiteKind>(i);
  }
  return std::nullopt;
}

}  // namespace repquant
