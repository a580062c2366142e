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

/// Rounded to nearest and nothing made up for: much is left to learn.
inline Recipe coarse_recipe(BitWidths bits) {
  Recipe recipe = recipe_for_bits(bits);
  recipe.weights.rounding = WeightRounding::kNearest;
  recipe.weights.scale_search = recipe.weights.codebook = recipe.weights.bias_correction = false;
  recipe.weights.compensation = Compensation::kNone;
  return recipe;
}

}  // namespace repquant::testing
