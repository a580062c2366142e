// Which value of each setting counts: command line, then environment, then recipe file, then ready
// recipe, then default.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "recipe/json.h"
#include "repquant/recipe.h"

namespace repquant {

/// One setting given on the command line.
struct CommandLineSetting {
  std::string key;      // dotted path, "norm.clipping"
  std::string value;    // as typed
  std::string option;   // what the user typed, for origins and errors: "--clipping", "--set"
  std::string where{};  // in errors instead of `option`: "--set norm.clipping"
};

/// Everything that can say something about a recipe.
struct RecipeSources {
  std::string ready{};  // a ready recipe or a width, without a file
  std::optional<std::filesystem::path> file{};
  std::vector<CommandLineSetting> settings{};        // in order; the last one of a key counts
  std::vector<std::string> exclude{};                // added to what the recipe excludes
  std::string exclude_option{"exclude"};             // who says so, for origins and errors
  std::map<std::string, std::string> environment{};  // REPQUANT_* variables
};

/// Sets `ready` if `name` is a ready recipe or a width, else `file` to `path`; neither if it is
/// empty.
void take_recipe(RecipeSources& sources, const std::string& name,
                 const std::filesystem::path& path);

/// A setting with its value as text and where that comes from.
struct ResolvedSetting {
  std::string key;
  std::string value;
  std::string origin;  // "default", "recipe w4a16", "file my.json", "REPQUANT_BITS", "--set" ...
};

struct ResolvedRecipe {
  Recipe recipe;
  std::vector<ResolvedSetting> settings;  // every setting, in the order of recipe_fields()

  /// `key = value  (origin)` per line, aligned: the text of --print-config.
  std::string to_string() const;
};

/// Settings of static grids that somebody gave although the granularity that counts has none, as
/// warnings: "norm.clipping=learned (--clipping) ...".
std::vector<std::string> settings_without_effect(const ResolvedRecipe& resolved);

/// The environment variable of a setting: "norm.clipping" is REPQUANT_NORM_CLIPPING.
std::string environment_name(const std::string& key);

/// The REPQUANT_* variables of this process.
std::map<std::string, std::string> repquant_environment();

/// Resolves all sources. The ready recipe is `ready`, else the one that the file `extends`, else
/// that of the bits that count in the end. Variables that name no setting are left to the caller
/// (unused_environment). Throws Error kUsage or kFile, as parse_recipe and apply_setting do.
ResolvedRecipe resolve_recipe(const RecipeSources& sources);

/// REPQUANT_* variables of `environment` that name neither a setting nor one of `known`.
std::vector<std::string> unused_environment(const std::map<std::string, std::string>& environment,
                                            const std::vector<std::string>& known);

}  // namespace repquant
