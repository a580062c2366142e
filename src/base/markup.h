// Any text, a file's name or an error, inside of markup.
#pragma once

#include <string>
#include <string_view>

namespace repquant {

/// For elements and attributes of XML 1.0 and HTML: valid UTF-8 (U+FFFD for what is not), no
/// control characters, markup and line breaks escaped.
std::string markup_text(std::string_view text);

/// One line for Markdown, in a table, too: what it takes for markup is escaped, control characters
/// are blanks.
std::string markdown_text(std::string_view text);

}  // namespace repquant
