// The elements of a list as one text.
#pragma once

#include <string>
#include <string_view>

namespace repquant {

/// "a, b, c"; of anything that a string_view is made of.
template <class Range>
std::string list_text(const Range& parts) {
  std::string text, separator;
  for (const auto& part : parts) {
    text.append(separator).append(std::string_view{part});
    separator = ", ";
  }
  return text;
}

}  // namespace repquant
