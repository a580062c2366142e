// The short name of a pair of bit widths: "w4a8".
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "repquant/recipe.h"

namespace repquant {

/// Widths that weights can have: 2..8.
bool is_weight_width(int bits);

/// Widths that activations can have: 2..8, or 16 for weight-only.
bool is_activation_width(int bits);

/// Parses "wXaY": X from 2 to 8, Y from 2 to 8 or 16 (upper case is accepted).
/// Throws Error kUsage, with `where` as the place to name, if the text is anything else.
BitWidths parse_bits(std::string_view text, std::string_view where = "`bits`");

/// The bits that `text` names as parse_bits() reads it; nothing if it is anything else.
std::optional<BitWidths> find_bits(std::string_view text);

/// Parses a list such as "w3a3,w4a4". Throws Error kUsage for an empty list and as parse_bits.
std::vector<BitWidths> parse_bits_list(std::string_view text, std::string_view where);

/// The inverse of parse_bits.
std::string to_string(const BitWidths& bits);

}  // namespace repquant
