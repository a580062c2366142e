// Which bit widths each site may get, and which sites have to share them.
#pragma once

#include <cstddef>
#include <vector>

#include "graph/site.h"
#include "repquant/recipe.h"

namespace repquant {

/// Widths without repetition, rising.
struct Candidates {
  std::vector<int> weight_bits;
  std::vector<int> activation_bits;
};

/// The weight and activation widths of `pairs`, each by itself: w3a3 and w6a6 allow w3a6, too.
/// Throws Error kUsage, naming `where`, for no pair and for weight-only ones.
Candidates candidates_of(const std::vector<BitWidths>& pairs, const char* where = "`candidates`");

struct SiteChoices {
  std::vector<int> weight_bits;      // rising; empty: no weight, or not quantized
  std::vector<int> activation_bits;  // rising; empty: activations stay in floating point
};

/// Sites whose activations are the same codes: Linears that read one norm or one value. A product
/// of attention is a group of its own.
struct Choices {
  std::vector<SiteChoices> sites;                // one for each site
  std::vector<std::vector<std::size_t>> groups;  // indices of sites with activations, rising
};

/// Every width that the recipe states for a site by itself (first and last layer, overrides) is the
/// only choice there, and of the sites that share its input. Excluded sites have no choices.
/// Throws Error as resolve_bits(), and kUsage for a weight-only recipe.
Choices find_choices(const std::vector<Site>& sites, const Recipe& recipe,
                     const Candidates& candidates);

}  // namespace repquant
