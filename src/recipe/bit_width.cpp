#include "recipe/bit_width.h"

#include <algorithm>
#include <charconv>

#include "repquant/error.h"

namespace repquant {
namespace {

// Reads digits from the front of `text` and drops them; -1 if there are none or too many.
int take_number(std::string_view& text) {
  int value = -1;
  const char* end = text.data() + text.size();
  const bool digit = !text.empty() && text.front() >= '0' && text.front() <= '9';
  if (!digit) return -1;
  const auto [next, status] = std::from_chars(text.data(), end, value);
  if (status != std::errc()) return -1;
  text.remove_prefix(static_cast<std::size_t>(next - text.data()));
  return value;
}

bool take_letter(std::string_view& text, char letter) {
  if (text.empty() || (text.front() | 0x20) != letter) return false;
  text.remove_prefix(1);
  return true;
}

// The numbers of "wXaY", whatever they are.
std::optional<BitWidths> two_numbers(std::string_view text) {
  BitWidths bits;
  if (!take_letter(text, 'w') || (bits.weight_bits = take_number(text)) < 0 ||
      !take_letter(text, 'a') || (bits.activation_bits = take_number(text)) < 0 || !text.empty()) {
    return std::nullopt;
  }
  return bits;
}

}  // namespace

bool is_weight_width(int bits) { return bits >= 2 && bits <= 8; }

bool is_activation_width(int bits) { return (bits >= 2 && bits <= 8) || bits == 16; }

BitWidths parse_bits(std::string_view text, std::string_view where) {
  const auto fail = [&](std::string what) {
    return Error(ErrorKind::kUsage, {.what = std::move(what),
                                     .where = std::string(where),
                                     .expected = "wXaY with X from 2 to 8, Y from 2 to 8 or 16",
                                     .got = "'" + std::string(text) + "'",
                                     .hint = "for example w8a8, w4a8, w4a4 or w4a16"});
  };
  const std::optional<BitWidths> bits = two_numbers(text);
  if (!bits) throw fail("bit widths are not written as wXaY");
  if (!is_weight_width(bits->weight_bits)) throw fail("weight bits are out of range");
  if (!is_activation_width(bits->activation_bits)) throw fail("activation bits are out of range");
  return *bits;
}

std::optional<BitWidths> find_bits(std::string_view text) {
  const std::optional<BitWidths> bits = two_numbers(text);
  const bool valid =
      bits && is_weight_width(bits->weight_bits) && is_activation_width(bits->activation_bits);
  return valid ? bits : std::nullopt;
}

std::vector<BitWidths> parse_bits_list(std::string_view text, std::string_view where) {
  std::vector<BitWidths> list;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    list.push_back(parse_bits(text.substr(begin, end - begin), where));
    begin = end + 1;
  }
  return list;
}

std::string to_string(const BitWidths& bits) {
  return "w" + std::to_string(bits.weight_bits) + "a" + std::to_string(bits.activation_bits);
}

}  // namespace repquant
