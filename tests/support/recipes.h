// Recipes that tests start from, besides recipe_for_bits().
#pragma once

#include "recipe/json.h"
#include "repquant/recipe.h"

namespace repquant::testing {

/// Grids that are fitted beforehand, with folds, side columns and quadratic grids.
inline Recipe static_recipe(BitWidths bits) {
  Recipe recipe = find_ready_recipe("static").value();
  recipe.bits = bits;
  return recipe;
}

}  // namespace repquant::testing
