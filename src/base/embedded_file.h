// Text files that the build puts into the program (cmake/repquant_embed.cmake).
#pragma once

#include <span>
#include <string_view>

namespace repquant {

struct EmbeddedFile {
  std::string_view name;  // without folder and ending
  std::string_view text;
};

}  // namespace repquant
