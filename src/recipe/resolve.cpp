#include "recipe/resolve.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/json_text.h"
#include "recipe/bit_width.h"
#include "recipe/effort.h"
#include "recipe/fields.h"

namespace repquant {
namespace {

constexpr std::string_view kPrefix = "REPQUANT_";

// One setting on top of those of weaker sources.
struct Layer {
  std::string key;
  std::string value;
  std::string origin;
  std::string where;  // for errors
};

std::vector<Layer> environment_layers(const std::map<std::string, std::string>& environment) {
  std::vector<Layer> layers;
  for (const RecipeField& field : recipe_fields()) {
    const std::string name = environment_name(field.path);
    const auto found = environment.find(name);
    if (found != environment.end()) layers.push_back({field.path, found->second, name, name});
  }
  return layers;
}

std::vector<Layer> command_line_layers(const std::vector<CommandLineSetting>& settings) {
  std::vector<Layer> layers;
  for (const CommandLineSetting& setting : settings) {
    const std::string& where = setting.where.empty() ? setting.option : setting.where;
    layers.push_back({setting.key, setting.value, setting.option, where});
  }
  return layers;
}

// The bits that count in the end, which name the ready recipe underneath.
BitWidths final_bits(const RecipeDocument& document, const std::vector<Layer>& layers) {
  Recipe recipe = document.recipe;
  for (const Layer& layer : layers) {
    if (layer.key == "bits") apply_setting(recipe, layer.key, layer.value, layer.where);
  }
  return recipe.bits;
}

bool says(const std::vector<RecipeChange>& changes, std::string_view key) {
  return std::any_of(changes.begin(), changes.end(),
                     [key](const RecipeChange& change) { return change.key == key; });
}

std::string value_text(const RecipeField& field, const Recipe& recipe) {
  const Json value = field.get(recipe);
  return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace

std::string environment_name(const std::string& key) {
  std::string name(kPrefix);
  for (const char c : key) {
    name += c == '.' ? '_' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return name;
}

std::map<std::string, std::string> repquant_environment() {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::size_t equals = text.find('=');
    if (text.starts_with(kPrefix) && equals != std::string_view::npos) {
      variables.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  return variables;
}

std::vector<std::string> unused_environment(const std::map<std::string, std::string>& environment,
                                            const std::vector<std::string>& known) {
  std::vector<std::string> unused;
  for (const auto& entry : environment) {
    const std::string& name = entry.first;
    const bool setting =
        std::any_of(recipe_fields().begin(), recipe_fields().end(),
                    [&name](const RecipeField& f) { return environment_name(f.path) == name; });
    const bool listed = std::find(known.begin(), known.end(), name) != known.end();
    if (!setting && !listed) unused.push_back(name);
  }
  return unused;
}

void take_recipe(RecipeSources& sources, const std::string& name,
                 const std::filesystem::path& path) {
  if (find_ready_recipe(name)) {
    sources.ready = name;
  } else if (!name.empty()) {
    sources.file = path;
  }
}

ResolvedRecipe resolve_recipe(const RecipeSources& sources) {
  RecipeDocument document;
  if (sources.file) document = read_recipe(*sources.file);
  std::vector<Layer> layers = environment_layers(sources.environment);
  for (Layer& layer : command_line_layers(sources.settings)) layers.push_back(std::move(layer));

  // The ready recipe below, and the document's own settings on top of it.
  std::string ready_name = sources.ready.empty() ? document.extends : sources.ready;
  if (ready_name.empty()) {
    // Without any word on bits the plain defaults count.
    const bool asked = says(document.changes, "bits") ||
                       std::any_of(layers.begin(), layers.end(),
                                   [](const Layer& layer) { return layer.key == "bits"; });
    if (asked) ready_name = to_string(final_bits(document, layers));
  }
  // The effort stands for other settings, so it comes before those of its own source.
  std::stable_partition(layers.begin(), layers.end(),
                        [](const Layer& layer) { return layer.key == "effort"; });
  ResolvedRecipe result;
  std::map<std::string, std::string> origins;
  const auto note_origin = [&](const std::string& key, const std::string& origin) {
    if (key == "effort") {
      for (const EffortSetting& setting : effort_settings(result.recipe.effort)) {
        origins[std::string(setting.key)] = "effort";
      }
    }
    origins[key] = origin;
  };
  if (!ready_name.empty()) {
    result.recipe = ready_recipe(ready_name, "`recipe`");
    for (const RecipeField& field : recipe_fields()) {
      if (field.get(result.recipe) == field.get(Recipe{})) continue;
      origins[field.path] = "recipe " + ready_name;
    }
  }
  if (sources.file) {
    // A file that extends nothing is laid over the recipe found above.
    result.recipe = read_recipe(*sources.file, result.recipe).recipe;
    const std::string origin = "file " + sources.file->string();
    for (const RecipeChange& change : document.changes) note_origin(change.key, origin);
    if (!says(document.changes, "name")) {
      result.recipe.name = sources.file->stem().string();
      origins["name"] = origin;
    }
  }
  for (const Layer& layer : layers) {
    apply_setting(result.recipe, layer.key, layer.value, layer.where);
    note_origin(layer.key, layer.origin);
  }
  if (!sources.exclude.empty()) {
    std::vector<std::string>& exclude = result.recipe.exclude;
    exclude.insert(exclude.end(), sources.exclude.begin(), sources.exclude.end());
    set_field(result.recipe, recipe_field("exclude", sources.exclude_option), Json(exclude),
              {sources.exclude_option});
    std::string& origin = origins["exclude"];
    origin += (origin.empty() ? "" : " and ") + sources.exclude_option;
  }
  for (const RecipeField& field : recipe_fields()) {
    const auto origin = origins.find(field.path);
    result.settings.push_back({field.path, value_text(field, result.recipe),
                               origin == origins.end() ? "default" : origin->second});
  }
  return result;
}

std::vector<std::string> settings_without_effect(const ResolvedRecipe& resolved) {
  constexpr std::array<std::string_view, 3> kOfNorms = {"norm.clipping", "norm.fold_exponent",
                                                        "norm.integer_offsets"};
  constexpr std::array<std::string_view, 3> kOfInputs = {
      "input.gelu_grid", "input.massive_threshold", "input.massive_bits"};
  std::vector<std::string> warnings;
  const auto check = [&](std::string_view granularity, InputGranularity chosen,
                         const auto& of_static_grids) {
    if (chosen != InputGranularity::kPerToken) return;
    for (const ResolvedSetting& setting : resolved.settings) {
      if (setting.origin == "default" || setting.origin.starts_with("recipe ") ||
          std::find(of_static_grids.begin(), of_static_grids.end(), setting.key) ==
              of_static_grids.end()) {
        continue;
      }
      warnings.push_back(setting.key + "=" + setting.value + " (" + setting.origin +
                         ") is for static grids, and has no effect with " +
                         std::string(granularity) + "=per_token; `recipe=static` has such grids");
    }
  };
  check("norm.granularity", resolved.recipe.norm.granularity, kOfNorms);
  check("input.granularity", resolved.recipe.input.granularity, kOfInputs);
  return warnings;
}

std::string ResolvedRecipe::to_string() const {
  std::size_t key_width = 0;
  std::size_t value_width = 0;
  constexpr std::size_t kWidest = 24;  // longer values push their origin to the right
  for (const ResolvedSetting& setting : settings) {
    key_width = std::max(key_width, setting.key.size());
    value_width = std::max(value_width, std::min(setting.value.size(), kWidest));
  }
  const auto pad = [](const std::string& text, std::size_t width) {
    return text + std::string(width > text.size() ? width - text.size() : 0, ' ');
  };
  std::string text;
  for (const ResolvedSetting& setting : settings) {
    text += pad(setting.key, key_width) + " = " + pad(setting.value, value_width) + "  (" +
            setting.origin + ")\n";
  }
  return text;
}

}  // namespace repquant
