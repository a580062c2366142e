// The JSON schema of recipe documents, derived from the field table: configs/recipe.schema.json.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "base/json_text.h"
#include "recipe/fields.h"
#include "recipe/json.h"
#include "support/paths.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

Json pattern_schema() { return {{"type", "string"}, {"minLength", 1}, {"maxLength", 1000}}; }

Json override_schema() {
  Json properties = Json::object();
  properties["pattern"] = pattern_schema();
  properties["weight_bits"] = {{"enum", override_weight_widths()}};
  properties["activation_bits"] = {{"enum", override_activation_widths()}};
  return {{"type", "object"},
          {"properties", std::move(properties)},
          {"required", Json::array({"pattern"})},
          {"additionalProperties", false}};
}

// Whole numbers are written without a fraction.
Json number(double value) {
  const auto whole = static_cast<std::int64_t>(value);
  return static_cast<double>(whole) == value ? Json(whole) : Json(value);
}

Json field_schema(const RecipeField& field) {
  Json schema = Json::object();
  schema["description"] = field.help;
  switch (field.kind) {
    case FieldKind::kBits:
      schema["type"] = "string";
      schema["pattern"] = "^[wW][2-8][aA]([2-8]|16)$";
      break;
    case FieldKind::kName:
      schema["enum"] = field.names;
      break;
    case FieldKind::kText:
      schema.update(pattern_schema());
      break;
    case FieldKind::kBool:
      schema["type"] = "boolean";
      break;
    case FieldKind::kInteger:
    case FieldKind::kNumber:
      if (!field.integers.empty()) {
        schema["enum"] = field.integers;
        break;
      }
      schema["type"] = field.kind == FieldKind::kInteger ? "integer" : "number";
      schema["minimum"] = number(field.minimum);
      schema["maximum"] = number(field.maximum);
      break;
    case FieldKind::kPatterns:
      schema["type"] = "array";
      schema["items"] = pattern_schema();
      break;
    case FieldKind::kOverrides:
      schema["type"] = "array";
      schema["items"] = override_schema();
      break;
  }
  if (field.kind != FieldKind::kText && field.kind != FieldKind::kBits) {
    schema["default"] = field.get(Recipe{});
  }
  return schema;
}

std::string recipe_schema() {
  Json properties = Json::object();
  properties["$schema"] = {{"type", "string"}};
  properties["schema_version"] = {{"const", kRecipeSchemaVersion}};
  properties["description"] = {{"type", "string"}};
  properties["extends"] = {
      {"description", "the ready recipe, or the width such as w4a8, that this one is laid over"},
      {"type", "string"}};
  for (const RecipeField& field : recipe_fields()) {
    const std::size_t dot = field.path.find('.');
    if (dot == std::string::npos) {
      properties[field.path] = field_schema(field);
      continue;
    }
    Json& section = properties[field.path.substr(0, dot)];
    section["type"] = "object";
    section["additionalProperties"] = false;
    section["properties"][field.path.substr(dot + 1)] = field_schema(field);
  }
  Json schema = Json::object();
  schema["$schema"] = "https://json-schema.org/draft/2020-12/schema";
  schema["title"] = "repquant recipe";
  schema["type"] = "object";
  schema["additionalProperties"] = false;
  schema["properties"] = std::move(properties);
  return schema.dump(2) + "\n";
}

TEST(RecipeSchemaTest, FileInConfigsIsCurrent) {
  const std::filesystem::path file = testing::source_dir() / "configs" / "recipe.schema.json";
  if (std::getenv("REPQUANT_UPDATE_FILES") != nullptr) testing::write_text(file, recipe_schema());
  EXPECT_EQ(testing::read_text(file), recipe_schema())
      << "run this test once with REPQUANT_UPDATE_FILES=1 to write the file anew";
}

}  // namespace

}  // namespace repquant
