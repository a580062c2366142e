// The elements of a list as one text.
#pragma once

#include <string>
#include <string_view>

namespace repquant {

/// "a, b, c"; of anything that a string_view is made of.
template <class Range>
std::string list_text(const Range& parts) {
  std::string text, separator;
  for (const std::string_view part : parts) {
    text.append(separator).append(part);
    separator = ", ";
  }
  return text;
}

}  // namespace repquant
