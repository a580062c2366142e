// Strict reading of one JSON object that people write: types, ranges and unknown keys, each error
// with its JSON pointer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json_text.h"

namespace repquant {

/// Reads keys one after the other; finish() refuses those that nobody asked for. Every function
/// throws Error kUsage with "source#/pointer" in `where`.
class JsonObject {
 public:
  /// Throws unless `value` is an object. The value must outlive this.
  JsonObject(const Json& value, std::string_view source, std::string_view pointer);

  /// The value of a key, or nullptr.
  const Json* find(const std::string& key);

  /// The value of a key that must be there.
  const Json& at(const std::string& key);

  /// A string without control characters. `text` gives the fallback for a missing key.
  std::string text(const std::string& key, const std::string& fallback = {});
  std::string required_text(const std::string& key);

  std::int64_t integer(const std::string& key, std::int64_t fallback, std::int64_t minimum,
                       std::int64_t maximum);
  double number(const std::string& key);
  bool boolean(const std::string& key, bool fallback);
  std::vector<std::string> texts(const std::string& key);

  /// All keys and values, for objects whose keys are free.
  std::vector<std::pair<std::string, const Json*>> items();

  /// Those that were not read, which are now.
  std::vector<std::pair<std::string, const Json*>> unread();

  /// Throws for a key that was not read, with the nearest one that was.
  void finish() const;

  const std::string& source() const { return source_; }
  std::string pointer(const std::string& key) const { return pointer_to(pointer_, key); }
  std::string where(const std::string& key) const { return json_location(source_, pointer(key)); }

  /// Throws about the value of a key.
  [[noreturn]] void fail(const std::string& key, std::string what, std::string expected) const;

 private:
  const Json* value_ = nullptr;
  std::string source_;
  std::string pointer_;
  std::vector<std::string> read_{};
};

/// `value` as a string without control characters. Throws Error kUsage naming `where`.
std::string json_text_value(const Json& value, const std::string& where);

}  // namespace repquant
