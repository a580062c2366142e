// Strict reading of JSON that people write: nlohmann's parser accepts duplicate keys and any depth.
#pragma once

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace repquant {

/// Keeps the order of keys.
using Json = nlohmann::ordered_json;

struct JsonLimits {
  std::size_t bytes = std::size_t{1} << 20U;
  int depth = 16;
};

/// Parses a whole document. Throws Error kUsage, with `source` and the JSON pointer or the line in
/// `where`, for malformed text, duplicate keys, too much depth or size. `source` may be empty.
Json parse_json(std::string_view text, std::string_view source, const JsonLimits& limits = {});

/// Reads and parses a file. Throws Error kFile if it cannot be read, else as parse_json.
Json read_json(const std::filesystem::path& path, const JsonLimits& limits = {});

/// `pointer` with one more reference token, escaped as RFC 6901 says (~ and /).
std::string pointer_to(std::string_view pointer, std::string_view key);

/// "source#/pointer", or "/pointer" alone when the source has no name.
std::string json_location(std::string_view source, std::string_view pointer);

/// What a value is, for messages: "the string \"x\"", "the number 7", "an object" ...
std::string describe_json(const Json& value);

}  // namespace repquant
