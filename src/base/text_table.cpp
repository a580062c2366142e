#include "base/text_table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <utility>

#include "repquant/error.h"

namespace repquant {
namespace {

std::string two_digits(long value) { return (value < 10 ? "0" : "") + std::to_string(value); }

}  // namespace

std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;  // not a UTF-8 continuation byte
  }));
}

TextTable::TextTable(std::vector<TableColumn> columns) : columns_(std::move(columns)) {}

void TextTable::add_row(std::vector<std::string> cells) {
  if (cells.size() != columns_.size() || cells.empty()) {
    throw Error(ErrorKind::kInternal, {.what = "table row has the wrong number of cells",
                                       .expected = std::to_string(columns_.size()),
                                       .got = std::to_string(cells.size())});
  }
  rows_.push_back(std::move(cells));
}

void TextTable::add_rule() { rows_.emplace_back(); }

std::string TextTable::to_string() const {
  std::vector<std::size_t> widths;
  for (const TableColumn& column : columns_) widths.push_back(width_of(column.title));
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string text;
  const auto put_line = [&](auto&& cell_of) {
    std::string line;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const std::string cell = cell_of(i);
      const std::string pad(widths[i] - width_of(cell), ' ');
      if (i > 0) line += "  ";
      line += columns_[i].align == Align::kRight ? pad + cell : cell + pad;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  const auto rule = [&](std::size_t i) { return std::string(widths[i], '-'); };
  put_line([&](std::size_t i) { return columns_[i].title; });
  put_line(rule);
  for (const auto& row : rows_) {
    if (row.empty()) {
      put_line(rule);
    } else {
      put_line([&](std::size_t i) { return row[i]; });
    }
  }
  return text;
}

std::string format_number(double value, int decimals) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::array<char, 400> buffer{};  // the longest double has 309 digits before the point
  const int size =
      std::snprintf(buffer.data(), buffer.size(), "%.*f", std::clamp(decimals, 0, 60), value);
  return {buffer.data(), static_cast<std::size_t>(size)};
}

std::string format_scientific(double value, int decimals) {
  std::array<char, 64> buffer{};
  const int size =
      std::snprintf(buffer.data(), buffer.size(), "%.*e", std::clamp(decimals, 0, 17), value);
  return {buffer.data(), static_cast<std::size_t>(size)};
}

std::string format_significant(double value, int digits) {
  std::array<char, 64> buffer{};
  const int size =
      std::snprintf(buffer.data(), buffer.size(), "%.*g", std::clamp(digits, 1, 17), value);
  return {buffer.data(), static_cast<std::size_t>(size)};
}

std::string format_count(double count) {
  constexpr std::array<const char*, 5> kUnits{"", " k", " M", " G", " T"};
  std::size_t unit = 0;
  for (; count >= 1000.0 && unit + 1 < kUnits.size(); ++unit) count /= 1000.0;
  const int decimals = unit == 0 ? 0 : count < 10.0 ? 2 : count < 100.0 ? 1 : 0;
  return format_number(count, decimals) + kUnits[unit];
}

std::string format_percent(double share, int decimals) {
  return format_number(100.0 * share, decimals) + " %";
}

std::string counted(std::int64_t count, std::string_view one, std::string_view more) {
  const std::string number = std::to_string(count) + " ";
  if (count == 1) return number + std::string(one);
  return number + (more.empty() ? std::string(one) + "s" : std::string(more));
}

std::string format_bytes(double bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "kB", "MB", "GB", "TB"};
  std::size_t unit = 0;
  while (unit + 1 < kUnits.size() && bytes >= 999.5) {
    bytes /= 1000;
    ++unit;
  }
  const int decimals = unit == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2;
  return format_number(bytes, decimals) + " " + kUnits[unit];
}

std::string format_duration(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "unknown";
  if (seconds < 9.95) return format_number(seconds, seconds < 0.995 ? 2 : 1) + " s";
  const long whole = std::lround(seconds);
  if (whole < 60) return std::to_string(whole) + " s";
  if (whole < 3600) {
    return std::to_string(whole / 60) + " min " + two_digits(whole % 60) + " s";
  }
  const long minutes = std::lround(seconds / 60);
  return std::to_string(minutes / 60) + " h " + two_digits(minutes % 60) + " min";
}

std::string without_control(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F, as UTF-8, are control characters as well.
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : '\0');
    const bool wide = byte == 0xC2 && next >= 0x80 && next < 0xA0;
    const bool control = (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F || wide;
    if (!control) {
      result += text[i];
      continue;
    }
    std::array<char, 8> code{};
    std::snprintf(code.data(), code.size(), "\\x%02x",
                  static_cast<unsigned>(static_cast<unsigned char>(wide ? text[++i] : text[i])));
    result += code.data();
  }
  return result;
}

}  // namespace repquant
