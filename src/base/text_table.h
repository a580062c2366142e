// Aligned columns of text for stdout.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace repquant {

/// Columns that a text takes: its UTF-8 code points.
std::size_t width_of(std::string_view text);

enum class Align { kLeft, kRight };

struct TableColumn {
  std::string title;
  Align align = Align::kLeft;
};

/// A table as a value: fill in rows, then to_string().
class TextTable {
 public:
  explicit TextTable(std::vector<TableColumn> columns);

  /// Adds a row. Throws Error kInternal if the number of cells is not that of the columns.
  void add_row(std::vector<std::string> cells);

  /// Adds a horizontal rule, as stands below the titles.
  void add_rule();

  /// Lines without trailing blanks, each ended by a newline. Columns are two blanks apart; a width
  /// is counted in UTF-8 code points.
  std::string to_string() const;

 private:
  std::vector<TableColumn> columns_;
  std::vector<std::vector<std::string>> rows_;  // an empty row is a rule
};

/// `value` with `decimals` digits after the point ("12.50"), "nan" and "inf" spelled so.
std::string format_number(double value, int decimals);

/// `value` with one digit before and `decimals` after the point: "1.2e-07".
std::string format_scientific(double value, int decimals = 1);

/// `value` in `digits` significant digits, small and large ones with an exponent: "0.0012".
std::string format_significant(double value, int digits);

/// A count in three digits and a decimal unit: "999", "1.23 M".
std::string format_count(double count);

/// A share as "82.5 %".
std::string format_percent(double share, int decimals = 1);

/// "1 site", "3 sites", "2 batches"; `more` is the plural where no s does.
std::string counted(std::int64_t count, std::string_view one, std::string_view more = "");

/// Bytes with a decimal unit and three significant digits: "999 B", "1.77 MB".
std::string format_bytes(double bytes);

/// Seconds as "0.35 s", "12 s", "3 min 20 s" or "2 h 05 min".
std::string format_duration(double seconds);

/// The text with control characters but newlines and tabs as \x1b: names of files and of parts of a
/// model must not steer a terminal.
std::string without_control(std::string_view text);

}  // namespace repquant
