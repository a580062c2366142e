// The bits of each site under a recipe.
#pragma once

#include <cstddef>
#include <vector>

#include "graph/site.h"
#include "repquant/recipe.h"

namespace repquant {

struct SiteBits {
  bool quantized = true;
  int weight_bits = 8;
  int activation_bits = 8;  // 16: weight-only

  friend bool operator==(const SiteBits&, const SiteBits&) = default;
};

/// Least bits of both operands of a product without a softmax, unless an override names others:
/// nothing behind it makes up for their errors, and it is a small part of a model.
inline constexpr int kProductBits = 8;

/// Effective bits of each site: edge layers, overrides, excludes. An embedding has the bits of
/// embedding.bits or of an override, and floating-point output.
/// Throws Error kUsage if a pattern of overrides or exclude matches no site.
std::vector<SiteBits> resolve_bits(const std::vector<Site>& sites, const Recipe& recipe);

/// True for an embedding whose table another site reads in floating point: its codes would only be
/// stored beside the table. resolve_bits() leaves it alone.
bool is_read_in_float(const std::vector<Site>& sites, const std::vector<SiteBits>& bits,
                      std::size_t index);

}  // namespace repquant
