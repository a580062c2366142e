// Values of recipe settings: from text, checked, and what to expect in messages.
#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/list_text.h"
#include "base/parse_number.h"
#include "base/pattern.h"
#include "base/text_table.h"
#include "recipe/bit_width.h"
#include "recipe/fields.h"
#include "repquant/error.h"

namespace repquant {
namespace {

constexpr std::size_t kMostEntries = 10000;  // of overrides and exclude patterns
constexpr std::size_t kMostText = 1000;      // bytes of a name or pattern

Error wrong_value(std::string what, std::string where, const RecipeField& field,
                  const Json& value) {
  return Error(ErrorKind::kUsage, {.what = std::move(what),
                                   .where = std::move(where),
                                   .expected = expected_value(field),
                                   .got = describe_json(value)});
}

void check_text(const Json& value, const std::string& where, std::string_view expected) {
  const auto fail = [&](std::string what) {
    return Error(ErrorKind::kUsage, {.what = std::move(what),
                                     .where = where,
                                     .expected = std::string(expected),
                                     .got = describe_json(value)});
  };
  if (!value.is_string()) throw fail("wrong type");
  const auto& text = value.get_ref<const std::string&>();
  if (text.empty()) throw fail("empty text in recipe");
  if (text.size() > kMostText) throw fail("text in recipe is too long");
  try {
    static_cast<void>(value.dump());
  } catch (const Json::exception&) {
    throw fail("text in recipe is not UTF-8");
  }
  if (std::any_of(text.begin(), text.end(),
                  [](char c) { return static_cast<unsigned char>(c) < 0x20; })) {
    throw fail("control character in recipe");
  }
}

void check_number(const RecipeField& field, const Json& value, const std::string& where) {
  const bool integer = field.kind == FieldKind::kInteger;
  if (integer ? !value.is_number_integer() : !value.is_number()) {
    throw wrong_value("wrong type", where, field, value);
  }
  const auto number = value.get<double>();
  const bool listed =
      field.integers.empty() ||
      std::find(field.integers.begin(), field.integers.end(), number) != field.integers.end();
  if (!(number >= field.minimum && number <= field.maximum) || !listed) {
    throw wrong_value("the value is out of range", where, field, value);
  }
}

void check_list(const RecipeField& field, const Json& value, const std::string& where) {
  if (!value.is_array()) throw wrong_value("wrong type", where, field, value);
  if (value.size() > kMostEntries) throw wrong_value("list is too long", where, field, value);
}

void check_pattern_text(const Json& value, const std::string& where) {
  check_text(value, where, "a pattern of site paths such as blocks.*.mlp.fc2");
  check_pattern(value.get_ref<const std::string&>(), where);
}

void check_override(const Json& value, const ValuePlace& place) {
  const std::string& where = place.where;
  if (!value.is_object()) {
    throw Error(ErrorKind::kUsage, {.what = "wrong type",
                                    .where = where,
                                    .expected = "an object with pattern and bits",
                                    .got = describe_json(value)});
  }
  const std::vector<std::string> keys = {"pattern", "weight_bits", "activation_bits"};
  for (const auto& [key, entry] : value.items()) {
    const std::string key_where = place.part(key).where;
    if (key == "pattern") {
      check_pattern_text(entry, key_where);
    } else if (key == "weight_bits" || key == "activation_bits") {
      const auto& widths =
          key == "weight_bits" ? override_weight_widths() : override_activation_widths();
      const RecipeField field{.path = key,
                              .help = "",
                              .kind = FieldKind::kInteger,
                              .minimum = 0,
                              .maximum = 16,
                              .integers = widths};
      check_number(field, entry, key_where);
    } else {
      throw Error(ErrorKind::kUsage, {.what = "unknown key of a recipe",
                                      .where = key_where,
                                      .expected = "pattern, weight_bits or activation_bits",
                                      .hint = nearest_hint(key, keys)});
    }
  }
  if (!value.contains("pattern")) {
    throw Error(
        ErrorKind::kUsage,
        {.what = "override without a pattern", .where = where, .expected = "the key pattern"});
  }
}

// The whole of `text` as a number of type T, or nothing.
template <class T>
Json number_or_null(std::string_view text) {
  const auto value = parse_number<T>(text);
  return value ? Json(*value) : Json(nullptr);
}

Json split_patterns(std::string_view text) {
  Json list = Json::array();
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    list.push_back(std::string(text.substr(0, comma)));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return list;
}

}  // namespace

ValuePlace ValuePlace::part(std::string_view key) const {
  return document ? ValuePlace{pointer_to(where, key), true} : *this;
}

void set_field(Recipe& recipe, const RecipeField& field, const Json& value,
               const ValuePlace& place) {
  const std::string& where = place.where;
  switch (field.kind) {
    case FieldKind::kBits:
      check_text(value, where, expected_value(field));
      static_cast<void>(parse_bits(value.get_ref<const std::string&>(), where));
      break;
    case FieldKind::kText:
      check_text(value, where, expected_value(field));
      break;
    case FieldKind::kName: {
      if (!value.is_string()) throw wrong_value("wrong type", where, field, value);
      const auto& text = value.get_ref<const std::string&>();
      if (std::find(field.names.begin(), field.names.end(), text) == field.names.end()) {
        throw Error(ErrorKind::kUsage, {.what = "unknown name",
                                        .where = where,
                                        .expected = expected_value(field),
                                        .got = describe_json(value),
                                        .hint = nearest_hint(text, field.names)});
      }
      break;
    }
    case FieldKind::kBool:
      if (!value.is_boolean()) throw wrong_value("wrong type", where, field, value);
      break;
    case FieldKind::kInteger:
    case FieldKind::kNumber:
      check_number(field, value, where);
      break;
    case FieldKind::kPatterns:
      check_list(field, value, where);
      for (std::size_t i = 0; i < value.size(); ++i) {
        check_pattern_text(value[i], place.part(std::to_string(i)).where);
      }
      break;
    case FieldKind::kOverrides:
      check_list(field, value, where);
      for (std::size_t i = 0; i < value.size(); ++i) {
        check_override(value[i], place.part(std::to_string(i)));
      }
      break;
  }
  field.put(recipe, value);
}

Json field_value(const RecipeField& field, std::string_view text, std::string_view source) {
  Json value;
  switch (field.kind) {
    case FieldKind::kBits:
    case FieldKind::kName:
    case FieldKind::kText:
      return std::string(text);
    case FieldKind::kBool:
      if (text == "true" || text == "false") return text == "true";
      break;
    case FieldKind::kInteger:
      value = number_or_null<std::int64_t>(text);
      break;
    case FieldKind::kNumber:
      value = number_or_null<double>(text);
      break;
    case FieldKind::kPatterns:
      // A pattern may itself begin with a bracket, so only ["... is taken for JSON.
      return text == "[]" || text.starts_with("[\"") ? parse_json(text, source)
                                                     : split_patterns(text);
    case FieldKind::kOverrides:
      return parse_json(text, source);
  }
  if (value.is_null()) {
    throw wrong_value("wrong type", std::string(source), field, std::string(text));
  }
  return value;
}

std::string expected_value(const RecipeField& field) {
  switch (field.kind) {
    case FieldKind::kBits:
      return "wXaY with X from 2 to 8, Y from 2 to 8 or 16";
    case FieldKind::kName:
      return "one of " + list_text(field.names);
    case FieldKind::kText:
      return "text";
    case FieldKind::kBool:
      return "true or false";
    case FieldKind::kInteger:
      if (!field.integers.empty()) {
        std::vector<std::string> parts;
        for (const int integer : field.integers) parts.push_back(std::to_string(integer));
        return "one of " + list_text(parts);
      }
      return "an integer from " + format_number(field.minimum, 0) + " to " +
             format_number(field.maximum, 0);
    case FieldKind::kNumber:
      return "a number from " + format_number(field.minimum, 0) + " to " +
             format_number(field.maximum, 0);
    case FieldKind::kPatterns:
      return "a list of patterns of site paths";
    case FieldKind::kOverrides:
      return "a list of objects with pattern, weight_bits, activation_bits";
  }
  return "";
}

}  // namespace repquant
