#include "base/pattern.h"

#include <algorithm>
#include <utility>

#include "base/text_table.h"
#include "repquant/error.h"

namespace repquant {
namespace {

constexpr std::size_t kNone = std::string_view::npos;

// Position after the bracket expression that starts at `begin`, or kNone if it does not end.
// A `]` straight after the opening (or after `!`) is an ordinary character, as in POSIX.
std::size_t bracket_end(std::string_view pattern, std::size_t begin) {
  std::size_t at = begin + 1;
  if (at < pattern.size() && (pattern[at] == '!' || pattern[at] == '^')) ++at;
  const std::size_t close = pattern.find(']', at + 1);
  return close == kNone ? kNone : close + 1;
}

bool in_bracket(std::string_view set, char c) {
  const bool negated = set.front() == '!' || set.front() == '^';
  if (negated) set.remove_prefix(1);
  const auto code = [](char x) { return static_cast<unsigned char>(x); };
  bool found = false;
  for (std::size_t i = 0; i < set.size(); ++i) {
    if (i + 2 < set.size() && set[i + 1] == '-') {
      found |= code(set[i]) <= code(c) && code(c) <= code(set[i + 2]);
      i += 2;
    } else {
      found |= set[i] == c;
    }
  }
  return found != negated;
}

// Matches one character; returns the position after the pattern element, or kNone.
std::size_t match_one(std::string_view pattern, std::size_t at, char c) {
  if (pattern[at] == '?') return at + 1;
  if (pattern[at] == '[') {
    const std::size_t end = bracket_end(pattern, at);
    if (end == kNone) return c == '[' ? at + 1 : kNone;
    return in_bracket(pattern.substr(at + 1, end - at - 2), c) ? end : kNone;
  }
  return pattern[at] == c ? at + 1 : kNone;
}

}  // namespace

void check_pattern(std::string_view pattern, std::string_view where) {
  const auto fail = [&](std::string what) {
    return Error(ErrorKind::kUsage, {.what = std::move(what),
                                     .where = std::string(where),
                                     .expected = "a pattern of site paths such as blocks.*.mlp.fc2",
                                     .got = "'" + std::string(pattern) + "'"});
  };
  if (pattern.empty()) throw fail("empty pattern");
  for (std::size_t at = pattern.find('['); at != kNone; at = pattern.find('[', at)) {
    at = bracket_end(pattern, at);
    if (at == kNone) throw fail("'[' without ']' in pattern");
  }
}

bool matches(std::string_view pattern, std::string_view text) {
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = kNone;  // position after the last `*`, to come back to
  std::size_t star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = ++p;
      star_text = t;
      continue;
    }
    const std::size_t next = p < pattern.size() ? match_one(pattern, p, text[t]) : kNone;
    if (next != kNone) {
      p = next;
      ++t;
    } else if (star != kNone) {
      p = star;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::vector<std::size_t> match_names(std::string_view pattern, std::span<const std::string> names,
                                     std::string_view where) {
  check_pattern(pattern, where);
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (matches(pattern, names[i])) found.push_back(i);
  }
  if (found.empty()) {
    throw Error(ErrorKind::kUsage, {.what = "pattern matches nothing",
                                    .where = std::string(where),
                                    .expected = "a pattern that matches at least one of " +
                                                counted(names.size(), "site"),
                                    .got = "'" + std::string(pattern) + "'",
                                    .hint = nearest_hint(pattern, names)});
  }
  return found;
}

std::size_t edit_distance(std::string_view pattern, std::string_view text) {
  std::vector<std::size_t> row(text.size() + 1);
  for (std::size_t t = 0; t <= text.size(); ++t) row[t] = t;
  for (const char c : pattern) {
    std::size_t diagonal = row[0];
    if (c != '*') ++row[0];
    for (std::size_t t = 1; t <= text.size(); ++t) {
      const std::size_t above = row[t];
      if (c == '*') {
        row[t] = std::min(above, row[t - 1]);
      } else {
        const std::size_t change = c == '?' || c == text[t - 1] ? 0 : 1;
        row[t] = std::min({diagonal + change, above + 1, row[t - 1] + 1});
      }
      diagonal = above;
    }
  }
  return row[text.size()];
}

std::vector<std::string> nearest_names(std::string_view pattern, std::span<const std::string> names,
                                       std::size_t count) {
  const auto fixed = static_cast<std::size_t>(
      std::count_if(pattern.begin(), pattern.end(), [](char c) { return c != '*' && c != '?'; }));
  const std::size_t limit = std::max<std::size_t>(2, fixed / 2);
  std::vector<std::pair<std::size_t, std::size_t>> ranked;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::size_t distance = edit_distance(pattern, names[i]);
    if (distance <= limit) ranked.emplace_back(distance, i);
  }
  std::sort(ranked.begin(), ranked.end());
  std::vector<std::string> nearest;
  for (const auto& [distance, i] : ranked) {
    if (nearest.size() == count || distance > ranked.front().first) break;
    if (std::find(nearest.begin(), nearest.end(), names[i]) == nearest.end()) {
      nearest.push_back(names[i]);
    }
  }
  return nearest;
}

std::string nearest_hint(std::string_view pattern, std::span<const std::string> names) {
  const std::vector<std::string> nearest = nearest_names(pattern, names);
  if (nearest.empty()) return "";
  std::string hint = "did you mean " + nearest.front();
  for (std::size_t i = 1; i < nearest.size(); ++i) {
    hint += (i + 1 == nearest.size() ? " or " : ", ") + nearest[i];
  }
  return hint + "?";
}

}  // namespace repquant
