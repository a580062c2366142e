// Where matrices [K, K] over the K input columns of a Linear are made.
#pragma once

#include <cstdint>

#include "repquant/recipe.h"

namespace repquant {

/// Columns up to which they are made whatever the rows. Beyond, the grid of an input goes without.
inline constexpr std::int64_t kPairColumns = 8192;

/// Whether weights are rounded or (with a target) compensated by more than the Hessian's diagonal.
inline bool needs_pairs(const WeightRecipe& recipe, bool with_target) {
  return recipe.rounding != WeightRounding::kNearest ||
         (with_target && recipe.compensation != Compensation::kNone);
}

/// Whether the Hessian of so many columns is measured in full, on so many rows, or its diagonal
/// alone: then there is neither GPTQ nor compensation. `needed`: needs_pairs(). Hangs on nothing
/// but this, not on the memory that there is: artifacts would differ.
///
/// With 8 rows and 64 outputs at w8a8 8192 columns take 11 s and 2.3 GB, 16384 77 s and 6.6 GB,
/// 25088 262 s and 14.7 GB. From four columns for each row on nothing is compensated either.
constexpr bool measures_pairs(std::int64_t columns, std::int64_t rows, bool needed) {
  constexpr std::int64_t kMostColumns = 2 * kPairColumns, kColumnsPerRow = 4;
  if (columns <= kPairColumns) return true;  // the errors that reports state are measured by it too
  return needed && columns <= kMostColumns && columns <= kColumnsPerRow * rows;
}

}  // namespace repquant
