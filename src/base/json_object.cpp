#include "base/json_object.h"

#include <algorithm>
#include <cmath>

#include "base/pattern.h"
#include "repquant/error.h"

namespace repquant {
namespace {

[[noreturn]] void fail_value(const std::string& where, std::string what, std::string expected,
                             std::string got) {
  throw Error(ErrorKind::kUsage, {.what = std::move(what),
                                  .where = where,
                                  .expected = std::move(expected),
                                  .got = std::move(got)});
}

}  // namespace

std::string json_text_value(const Json& value, const std::string& where) {
  if (!value.is_string()) fail_value(where, "wrong type", "a string", describe_json(value));
  std::string text = value.get<std::string>();
  const bool control = std::any_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
  });
  if (control) {
    fail_value(where, "a control character in a string", "printable text", describe_json(value));
  }
  return text;
}

JsonObject::JsonObject(const Json& value, std::string_view source, std::string_view pointer)
    : value_(&value), source_(source), pointer_(pointer) {
  if (!value.is_object()) {
    fail_value(json_location(source_, pointer_), "wrong type", "an object", describe_json(value));
  }
}

const Json* JsonObject::find(const std::string& key) {
  read_.push_back(key);
  const auto found = value_->find(key);
  return found == value_->end() ? nullptr : &*found;
}

const Json& JsonObject::at(const std::string& key) {
  const Json* value = find(key);
  if (value == nullptr) {
    fail_value(json_location(source_, pointer_), "a key is missing", "the key " + key, "none");
  }
  return *value;
}

std::string JsonObject::text(const std::string& key, const std::string& fallback) {
  const Json* value = find(key);
  return value == nullptr ? fallback : json_text_value(*value, where(key));
}

std::string JsonObject::required_text(const std::string& key) {
  std::string text = json_text_value(at(key), where(key));
  if (text.empty()) fail_value(where(key), "an empty string", "some text", "\"\"");
  return text;
}

std::int64_t JsonObject::integer(const std::string& key, std::int64_t fallback,
                                 std::int64_t minimum, std::int64_t maximum) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  const std::string expected =
      "an integer from " + std::to_string(minimum) + " to " + std::to_string(maximum);
  const bool fits =
      value->is_number_integer() &&
      !(value->is_number_unsigned() && value->get<std::uint64_t>() > std::uint64_t{INT64_MAX}) &&
      value->get<std::int64_t>() >= minimum && value->get<std::int64_t>() <= maximum;
  if (!fits) fail(key, "not allowed here", expected);
  return value->get<std::int64_t>();
}

double JsonObject::number(const std::string& key) {
  const Json& value = at(key);
  if (!value.is_number() || !std::isfinite(value.get<double>())) {
    fail(key, "wrong type", "a number");
  }
  return value.get<double>();
}

bool JsonObject::boolean(const std::string& key, bool fallback) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) fail(key, "wrong type", "true or false");
  return value->get<bool>();
}

std::vector<std::string> JsonObject::texts(const std::string& key) {
  const Json* value = find(key);
  if (value == nullptr) return {};
  if (!value->is_array()) fail(key, "wrong type", "an array of strings");
  std::vector<std::string> result;
  for (std::size_t i = 0; i < value->size(); ++i) {
    result.push_back(json_text_value(
        (*value)[i], json_location(source_, pointer_to(pointer(key), std::to_string(i)))));
  }
  return result;
}

std::vector<std::pair<std::string, const Json*>> JsonObject::items() {
  std::vector<std::pair<std::string, const Json*>> result;
  for (const auto& [key, value] : value_->items()) {
    read_.push_back(key);
    result.emplace_back(key, &value);
  }
  return result;
}

std::vector<std::pair<std::string, const Json*>> JsonObject::unread() {
  std::vector<std::pair<std::string, const Json*>> result;
  for (const auto& [key, value] : value_->items()) {
    if (std::find(read_.begin(), read_.end(), key) == read_.end()) result.emplace_back(key, &value);
  }
  for (const auto& item : result) read_.push_back(item.first);
  return result;
}

void JsonObject::finish() const {
  for (const auto& [key, value] : value_->items()) {
    if (std::find(read_.begin(), read_.end(), key) != read_.end()) continue;
    throw Error(ErrorKind::kUsage,
                {.what = "unknown key", .where = where(key), .hint = nearest_hint(key, read_)});
  }
}

void JsonObject::fail(const std::string& key, std::string what, std::string expected) const {
  fail_value(where(key), std::move(what), std::move(expected), describe_json(value_->at(key)));
}

}  // namespace repquant
