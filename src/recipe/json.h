// Recipes as JSON, and the ready ones in configs/ (embedded at build time).
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/embedded_file.h"
#include "repquant/recipe.h"

namespace repquant {

inline constexpr int kRecipeSchemaVersion = 1;

/// One setting changed by a recipe document: its dotted path and the text of its new value.
struct RecipeChange {
  std::string key;
  std::string value;
};

/// A recipe document laid over a base.
struct RecipeDocument {
  Recipe recipe;
  std::string extends;                // the ready recipe it is laid over; empty: the defaults
  std::vector<RecipeChange> changes;  // what the document itself says, in its order
};

/// Parses a recipe document. Keys that it leaves out keep the value of the ready recipe it
/// `extends`, else of `base`. Throws Error kUsage for malformed text, unknown or duplicate keys,
/// wrong types, values out of range and a schema version other than 1, with "source#/pointer" in
/// `where` and the nearest valid key as hint.
RecipeDocument parse_recipe(std::string_view text, std::string_view source = "",
                            const Recipe& base = {});

/// parse_recipe of a file's content. Throws also Error kFile if it cannot be read.
RecipeDocument read_recipe(const std::filesystem::path& path, const Recipe& base = {});

/// Every setting of `recipe` as indented JSON that parse_recipe reads back to an equal recipe.
std::string recipe_to_json(const Recipe& recipe);

/// `key=value` such as `norm.clipping=learned`, applied to `recipe`. Throws Error kUsage naming
/// `source`.
void apply_setting(Recipe& recipe, std::string_view key, std::string_view value,
                   std::string_view source = "setting");

/// Splits "KEY=VALUE" at the first '='. Throws Error kUsage if there is none.
RecipeChange parse_setting(std::string_view text, std::string_view source = "setting");

/// The recipes of configs/, by name ("paper"), as JSON.
std::span<const EmbeddedFile> ready_recipes();

/// The ready recipe of that name, or recipe_for_bits() of a width ("w4a8"); nothing for another
/// name.
std::optional<Recipe> find_ready_recipe(std::string_view name);

/// The same. Throws Error kUsage, naming `where`, for another name.
Recipe ready_recipe(std::string_view name, std::string_view where);

/// The description line of a ready recipe; empty if it does not exist.
std::string ready_recipe_description(std::string_view name);

/// Names of the ready recipes, for messages and help.
std::vector<std::string> ready_recipe_names();

/// The recipe for `--bits` alone, named after them: the defaults with these bits, or, for
/// weight-only bits, the ready recipe w4a16 with these bits.
Recipe recipe_for_bits(const BitWidths& bits);

}  // namespace repquant
