#include "fuzz/input.h"
#include "recipe/json.h"

namespace repquant::fuzz {

void fuzz_recipe(Input input) {
  survive([&] {
    const Recipe recipe = parse_recipe(text_of(input), "fuzz").recipe;
    if (parse_recipe(recipe_to_json(recipe)).recipe != recipe) {
      throw std::logic_error("a recipe that does not come back from its text");
    }
  });
}

}  // namespace repquant::fuzz
