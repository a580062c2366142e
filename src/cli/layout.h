// How much room text on stdout has, and text and tables that keep to it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/text_table.h"

namespace repquant::cli {

struct Layout {
  std::size_t width = 80;  // columns
  bool verbose = false;    // with what only some readers need
};

/// The width of the terminal behind stdout; of the variable COLUMNS if that is set; else 80.
std::size_t terminal_width();

/// `text` in lines of at most `width` columns, broken at blanks, all but the first indented by
/// `indent`; a word that is longer stays whole. Lines that are there stay lines. Without a newline
/// at the end.
std::string wrapped(const std::string& text, std::size_t width, std::size_t indent = 0);

struct Column {
  std::string title;
  Align align = Align::kLeft;
  int rank =
      0;  // 0: always shown; others are left out of a table that is too wide, large ones first
};

/// A table that fits a layout: columns are left out by rank, and the last one, if it is text, is
/// broken into lines. Filled as TextTable.
class Table {
 public:
  Table(std::vector<Column> columns, const Layout& layout);
  void add_row(std::vector<std::string> cells);
  void add_rule();

  /// With a line below that names the columns that were left out.
  std::string to_string() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_{};  // an empty row is a rule
  Layout layout_;
};

}  // namespace repquant::cli
