// Glob patterns on site paths, and the nearest names for error hints.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace repquant {

/// Throws Error kUsage if `pattern` is empty or has a bracket without an end.
void check_pattern(std::string_view pattern, std::string_view where);

/// True if the whole of `text` fits `pattern`: `*` is any run of characters (dots too), `?` any one
/// character, `[a-c]` one of a set, `[!a-c]` one outside it; everything else stands for itself.
/// The pattern must have passed check_pattern.
bool matches(std::string_view pattern, std::string_view text);

/// Indices of the names that fit `pattern`, in order. Throws Error kUsage, with the nearest names
/// as hint, if none does: a pattern that matches nothing is always a mistake.
std::vector<std::size_t> match_names(std::string_view pattern, std::span<const std::string> names,
                                     std::string_view where);

/// Number of insertions, deletions and substitutions between `pattern` and `text`, where the
/// pattern's `*` and `?` cost nothing.
std::size_t edit_distance(std::string_view pattern, std::string_view text);

/// The names of the least distance, at most `count` of them; none that share too little with
/// `pattern`.
std::vector<std::string> nearest_names(std::string_view pattern, std::span<const std::string> names,
                                       std::size_t count = 3);

/// "did you mean a, b or c?" for the nearest names, empty if there are none.
std::string nearest_hint(std::string_view pattern, std::span<const std::string> names);

}  // namespace repquant
