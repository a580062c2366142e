// Numbers in texts that users write.
#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

namespace repquant {

/// The number that the whole of `text` is, as std::from_chars reads it: no spaces, no plus sign.
template <class T>
std::optional<T> parse_number(std::string_view text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [next, status] = std::from_chars(text.data(), end, value);
  if (status != std::errc() || next != end) return std::nullopt;
  return value;
}

}  // namespace repquant
