// Every setting of a recipe as a row of one table: parser, writer, --set, environment variables,
// --print-config, help and the JSON schema in configs/ all go by it.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_text.h"
#include "repquant/recipe.h"

namespace repquant {

enum class FieldKind { kBits, kName, kText, kBool, kInteger, kNumber, kPatterns, kOverrides };

struct RecipeField {
  std::string path;  // dotted: "norm.clipping"
  std::string help;  // one sentence
  FieldKind kind = FieldKind::kText;
  double minimum = 0;                // of kInteger and kNumber
  double maximum = 0;                //
  std::vector<int> integers{};       // if not empty: the only integers allowed
  std::vector<std::string> names{};  // of kName

  std::function<Json(const Recipe&)> get{};

  /// Stores a value already of the right type and range.
  std::function<void(Recipe&, const Json&)> put{};
};

/// The table, in the order in which recipes are written.
const std::vector<RecipeField>& recipe_fields();

/// The row with this dotted path. Throws Error kUsage with the nearest valid path as hint.
const RecipeField& recipe_field(std::string_view path, std::string_view where);

/// Where a value stands, for messages.
struct ValuePlace {
  std::string where;      // "recipe.json#/exclude", "--exclude"
  bool document = false;  // a JSON document: parts of the value have a place of their own

  ValuePlace part(std::string_view key) const;
};

/// Checks type and range of `value`, then stores it. Throws Error kUsage that names `place` (of a
/// value inside of a list in a document the element).
void set_field(Recipe& recipe, const RecipeField& field, const Json& value,
               const ValuePlace& place);

/// The text of an option or environment variable as the JSON value that `field` expects: names and
/// text as they are, numbers and booleans strictly, pattern lists separated by commas or as a JSON
/// array, overrides as a JSON array. Throws Error kUsage naming `source`.
Json field_value(const RecipeField& field, std::string_view text, std::string_view source);

/// What `field` accepts, for messages and help: "one of a, b", "an integer from 1 to 8" ...
std::string expected_value(const RecipeField& field);

/// The allowed widths of a first or last layer or an override, with 0 for "as the rest".
const std::vector<int>& override_weight_widths();
const std::vector<int>& override_activation_widths();

}  // namespace repquant
