// Results as something to hand on: a page that needs nothing but itself, or Markdown.
#pragma once

#include <string>
#include <string_view>

#include "base/json_text.h"

namespace repquant {

/// What every report begins with, so that a later one may replace it.
inline constexpr std::string_view kPageBeginning = "<!DOCTYPE html>\n<!-- repquant report -->";
inline constexpr std::string_view kMarkdownReportBeginning = "<!-- repquant report -->";

/// One HTML file without scripts and without anything from elsewhere, in light and dark, readable
/// from 400 pixels of width. `result`: the JSON of a command. Throws Error as document_of().
std::string report_page(const Json& result);

/// The same as Markdown of GitHub, pictures as tables. Throws Error as document_of().
std::string report_markdown(const Json& result);

}  // namespace repquant
