#include "recipe/json.h"

#include <utility>

#include "base/json_text.h"
#include "base/pattern.h"
#include "recipe/bit_width.h"
#include "recipe/fields.h"
#include "repquant/error.h"

namespace repquant {
namespace {

// Keys of a document that are no settings.
constexpr std::string_view kSchemaKey = "$schema";
constexpr std::string_view kVersionKey = "schema_version";
constexpr std::string_view kExtendsKey = "extends";
constexpr std::string_view kDescriptionKey = "description";
// The setting that stands for others.
constexpr std::string_view kEffortKey = "effort";

Error wrong(std::string what, std::string where, std::string expected, const Json& got) {
  return Error(ErrorKind::kUsage, {.what = std::move(what),
                                   .where = std::move(where),
                                   .expected = std::move(expected),
                                   .got = describe_json(got)});
}

// Keys that may stand in the section `prefix` ("" or "norm."), for hints.
std::vector<std::string> keys_below(const std::string& prefix) {
  std::vector<std::string> keys;
  if (prefix.empty()) {
    keys = {std::string(kVersionKey), std::string(kExtendsKey), std::string(kDescriptionKey)};
  }
  for (const RecipeField& field : recipe_fields()) {
    if (!field.path.starts_with(prefix)) continue;
    const std::string rest = field.path.substr(prefix.size());
    const std::string key = rest.substr(0, rest.find('.'));
    if (keys.empty() || keys.back() != key) keys.push_back(key);
  }
  return keys;
}

const RecipeField* find_field(const std::string& path) {
  for (const RecipeField& field : recipe_fields()) {
    if (field.path == path) return &field;
  }
  return nullptr;
}

bool is_section(const std::string& path) {
  for (const RecipeField& field : recipe_fields()) {
    if (field.path.starts_with(path + ".")) return true;
  }
  return false;
}

// The text that apply_setting would take for `value`.
std::string setting_text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

void check_heading(const Json& document, std::string_view source) {
  const auto where = [&](std::string_view key) {
    return json_location(source, pointer_to("", key));
  };
  if (document.contains(kVersionKey)) {
    const Json& version = document.at(std::string(kVersionKey));
    if (!version.is_number_integer() || version != kRecipeSchemaVersion) {
      throw wrong("unsupported recipe version", where(kVersionKey),
                  std::to_string(kRecipeSchemaVersion), version);
    }
  }
  for (const std::string_view key : {kSchemaKey, kDescriptionKey, kExtendsKey}) {
    if (document.contains(key) && !document.at(std::string(key)).is_string()) {
      throw wrong("wrong type", where(key), "text", document.at(std::string(key)));
    }
  }
}

// Applies every setting of `object` (the document or one of its sections) to the result.
void apply_object(RecipeDocument& result, const Json& object, const std::string& prefix,
                  const std::string& pointer, std::string_view source) {
  // The effort stands for other settings, which the document may change whatever its order.
  if (prefix.empty() && object.contains(kEffortKey)) {
    set_field(result.recipe, recipe_field(kEffortKey, source), object.at(std::string(kEffortKey)),
              {json_location(source, pointer_to("", kEffortKey)), true});
    result.changes.push_back(
        {std::string(kEffortKey), setting_text(object.at(std::string(kEffortKey)))});
  }
  for (const auto& [key, value] : object.items()) {
    const std::string path = prefix + key;
    const bool heading = prefix.empty() && (key == kSchemaKey || key == kVersionKey ||
                                            key == kExtendsKey || key == kDescriptionKey);
    if (heading || (prefix.empty() && key == kEffortKey)) continue;
    const std::string here = pointer_to(pointer, key);
    // A key with a dot in it must not reach a setting of the same dotted path.
    const bool plain = key.find('.') == std::string::npos;
    const RecipeField* field = plain ? find_field(path) : nullptr;
    if (field != nullptr) {
      set_field(result.recipe, *field, value, {json_location(source, here), true});
      result.changes.push_back({path, setting_text(value)});
    } else if (plain && prefix.empty() && is_section(path)) {
      if (!value.is_object()) {
        throw wrong("wrong type", json_location(source, here), "an object", value);
      }
      apply_object(result, value, path + ".", here, source);
    } else {
      throw Error(ErrorKind::kUsage, {.what = "unknown key of a recipe",
                                      .where = json_location(source, here),
                                      .got = describe_json(key),
                                      .hint = nearest_hint(key, keys_below(prefix))});
    }
  }
}

RecipeDocument lay_over(const Json& document, std::string_view source, const Recipe& base) {
  if (!document.is_object()) {
    throw wrong("recipe is not a JSON object", json_location(source, ""), "an object", document);
  }
  check_heading(document, source);
  RecipeDocument result{.recipe = base, .extends = "", .changes = {}};
  if (document.contains(kExtendsKey)) {
    result.extends = document.at(std::string(kExtendsKey)).get<std::string>();
    result.recipe =
        ready_recipe(result.extends, json_location(source, pointer_to("", kExtendsKey)));
    result.recipe.name = base.name;
  }
  apply_object(result, document, "", "", source);
  return result;
}

}  // namespace

RecipeDocument parse_recipe(std::string_view text, std::string_view source, const Recipe& base) {
  return lay_over(parse_json(text, source), source, base);
}

RecipeDocument read_recipe(const std::filesystem::path& path, const Recipe& base) {
  return lay_over(read_json(path), path.string(), base);
}

std::string recipe_to_json(const Recipe& recipe) {
  Json document = Json::object();
  document[std::string(kVersionKey)] = kRecipeSchemaVersion;
  for (const RecipeField& field : recipe_fields()) {
    const std::size_t dot = field.path.find('.');
    if (dot == std::string::npos) {
      document[field.path] = field.get(recipe);
    } else {
      document[field.path.substr(0, dot)][field.path.substr(dot + 1)] = field.get(recipe);
    }
  }
  return document.dump(2) + "\n";
}

void apply_setting(Recipe& recipe, std::string_view key, std::string_view value,
                   std::string_view source) {
  const RecipeField& field = recipe_field(key, source);
  set_field(recipe, field, field_value(field, value, source), {std::string(source)});
}

RecipeChange parse_setting(std::string_view text, std::string_view source) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    throw Error(ErrorKind::kUsage, {.what = "setting is not written as KEY=VALUE",
                                    .where = std::string(source),
                                    .expected = "for example norm.clipping=learned",
                                    .got = "'" + std::string(text) + "'"});
  }
  return {std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
}

std::optional<Recipe> find_ready_recipe(std::string_view name) {
  for (const EmbeddedFile& ready : ready_recipes()) {
    if (ready.name == name) {
      return parse_recipe(ready.text, "configs/" + std::string(name) + ".json").recipe;
    }
  }
  const std::optional<BitWidths> bits = find_bits(name);
  return bits ? std::optional(recipe_for_bits(*bits)) : std::nullopt;
}

Recipe ready_recipe(std::string_view name, std::string_view where) {
  if (std::optional<Recipe> ready = find_ready_recipe(name)) return *std::move(ready);
  const std::vector<std::string> names = ready_recipe_names();
  std::string expected = "a width such as w4a4, or one of";
  for (const std::string& known : names) expected += " " + known;
  throw Error(ErrorKind::kUsage, {.what = "no ready recipe has this name",
                                  .where = std::string(where),
                                  .expected = expected,
                                  .got = "'" + std::string(name) + "'",
                                  .hint = nearest_hint(name, names)});
}

std::string ready_recipe_description(std::string_view name) {
  for (const EmbeddedFile& ready : ready_recipes()) {
    if (ready.name != name) continue;
    const Json document = parse_json(ready.text, name);
    return document.value(std::string(kDescriptionKey), std::string());
  }
  return "";
}

std::vector<std::string> ready_recipe_names() {
  std::vector<std::string> names;
  for (const EmbeddedFile& ready : ready_recipes()) names.emplace_back(ready.name);
  return names;
}

Recipe recipe_for_bits(const BitWidths& bits) {
  // Up to eight levels are too few for a whole row (docs/decisions-accuracy.md, 24).
  constexpr int kGroupedInputBits = 3;
  Recipe recipe;
  if (bits.activation_bits <= kGroupedInputBits) recipe = find_ready_recipe("groups").value();
  if (bits.weight_only()) {
    recipe = find_ready_recipe("w4a16").value();
    // What wider groups lose is in proportion to the step: above 4 bits little for the file.
    if (bits.weight_bits > 4) recipe.weights.group_size = 128;
  }
  recipe.name = to_string(bits);
  recipe.bits = bits;
  return recipe;
}

}  // namespace repquant
