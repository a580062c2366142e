#include "graph/einsum.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>

namespace repquant {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts{""};
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

/// The letters of one operand; "..." becomes digits that count down to '0'.
std::optional<std::string> expand(const std::string& term, std::optional<std::int64_t> rank) {
  const auto dots = term.find("...");
  if (dots == std::string::npos) return term;
  if (!rank) return {};
  const auto hidden = *rank - static_cast<std::int64_t>(term.size() - 3);
  if (hidden < 0 || hidden > 9) return {};
  std::string digits;
  for (std::int64_t i = hidden; i > 0; --i) digits += static_cast<char>('0' + (i - 1));
  return term.substr(0, dots) + digits + term.substr(dots + 3);
}

}  // namespace

std::optional<Equation> parse_equation(const std::string& text,
                                       const std::vector<std::optional<std::int64_t>>& ranks) {
  std::string compact;
  for (const char c : text) {
    if (c != ' ') compact += c;
  }
  const auto arrow = compact.find("->");
  const std::vector<std::string> terms = split(compact.substr(0, arrow), ',');
  if (terms.size() != ranks.size()) return {};
  Equation equation;
  std::map<char, int> count;
  std::string dots;  // the longest "..."
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const auto letters = expand(terms[i], ranks[i]);
    if (!letters) return {};
    std::string digits;
    for (const char c : *letters) {
      if (std::isalnum(static_cast<unsigned char>(c)) == 0) return {};
      ++count[c];
      if (std::isdigit(static_cast<unsigned char>(c)) != 0) digits += c;
    }
    if (digits.size() > dots.size()) dots = digits;
    equation.operands.push_back(*letters);
  }
  if (arrow == std::string::npos) {  // the letters that occur once, sorted
    equation.output = dots;
    for (const auto& [letter, times] : count) {
      if (times == 1 && std::isalpha(static_cast<unsigned char>(letter)) != 0) {
        equation.output += letter;
      }
    }
    return equation;
  }
  const std::string output = compact.substr(arrow + 2);
  const auto at = output.find("...");
  equation.output =
      at == std::string::npos ? output : output.substr(0, at) + dots + output.substr(at + 3);
  for (const char c : equation.output) {
    if (count.count(c) == 0) return {};
  }
  return equation;
}

std::int64_t einsum_macs(const std::string& text,
                         const std::vector<std::vector<std::int64_t>>& shapes) {
  std::vector<std::optional<std::int64_t>> ranks;
  for (const auto& shape : shapes) ranks.emplace_back(static_cast<std::int64_t>(shape.size()));
  const auto equation = parse_equation(text, ranks);
  if (!equation) return 0;
  std::map<char, std::int64_t> size;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const std::string& letters = equation->operands[i];
    if (letters.size() != shapes[i].size()) return 0;
    for (std::size_t d = 0; d < letters.size(); ++d) {
      size[letters[d]] = std::max(size[letters[d]], shapes[i][d]);
    }
  }
  std::int64_t total = 0;
  std::set<char> left(equation->operands[0].begin(), equation->operands[0].end());
  for (std::size_t i = 1; i < shapes.size(); ++i) {
    left.insert(equation->operands[i].begin(), equation->operands[i].end());
    std::int64_t product = 1;
    for (const char c : left) product *= size[c];
    total += product;
    std::set<char> needed(equation->output.begin(), equation->output.end());
    for (std::size_t later = i + 1; later < shapes.size(); ++later) {
      needed.insert(equation->operands[later].begin(), equation->operands[later].end());
    }
    std::erase_if(left, [&](char c) { return needed.count(c) == 0; });
  }
  return total;
}

}  // namespace repquant
