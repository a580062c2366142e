#include "cli/layout.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "base/list_text.h"
#include "base/parse_number.h"
#include "base/text_table.h"

namespace repquant::cli {
namespace {

constexpr std::size_t kUsualWidth = 80;
constexpr std::size_t kLeastWidth = 40;  // narrower terminals wrap by themselves
constexpr std::size_t kLeastText = 24;   // of a column that is broken into lines
constexpr std::size_t kGap = 2;          // between columns

/// One line without newlines, broken at blanks.
std::string wrapped_line(const std::string& line, std::size_t width, std::size_t indent) {
  std::string text;
  std::size_t column = 0;
  std::size_t begin = 0;
  while (begin <= line.size()) {
    const std::size_t end = std::min(line.find(' ', begin), line.size());
    const std::string word = line.substr(begin, end - begin);
    const std::size_t size = width_of(word);
    const bool first = begin == 0;
    if (!first && column + 1 + size > width) {
      text += "\n" + std::string(indent, ' ') + word;
      column = indent + size;
    } else {
      text += (first ? "" : " ") + word;
      column += (first ? 0 : 1) + size;
    }
    begin = end + 1;
  }
  return text;
}

}  // namespace

std::size_t terminal_width() {
  std::size_t width = 0;
  if (const char* columns = std::getenv("COLUMNS"); columns != nullptr) {
    width = parse_number<std::size_t>(columns).value_or(0);
  }
  if (width == 0) {
    winsize size{};
    if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) width = size.ws_col;
  }
  return width == 0 ? kUsualWidth : std::max(width, kLeastWidth);
}

std::string wrapped(const std::string& text, std::size_t width, std::size_t indent) {
  std::istringstream lines(text);
  std::string result, line;
  for (bool first = true; std::getline(lines, line); first = false) {
    result += (first ? "" : "\n") + wrapped_line(line, width, indent);
  }
  return result;
}

Table::Table(std::vector<Column> columns, const Layout& layout)
    : columns_(std::move(columns)), layout_(layout) {}

void Table::add_row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

void Table::add_rule() { rows_.emplace_back(); }

std::string Table::to_string() const {
  std::vector<std::size_t> widths;
  std::size_t total = 0;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    widths.push_back(width_of(columns_[i].title));
    for (const auto& row : rows_) {
      if (!row.empty()) widths[i] = std::max(widths[i], width_of(row.at(i)));
    }
    total += widths[i] + (i > 0 ? kGap : 0);
  }
  std::vector<bool> shown(columns_.size(), true);
  while (total > layout_.width) {
    std::size_t out = columns_.size();
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      const bool candidate = shown[i] && columns_[i].rank > 0;
      if (candidate && (out == columns_.size() || columns_[i].rank >= columns_[out].rank)) out = i;
    }
    if (out == columns_.size()) break;
    shown[out] = false;
    total -= widths[out] + kGap;
  }

  std::vector<std::size_t> kept;
  std::vector<TableColumn> titles;
  std::vector<std::string> left_out;  // two columns may have one title
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    if (shown[i]) {
      kept.push_back(i);
      titles.push_back({columns_[i].title, columns_[i].align});
    } else {
      const std::string& title = columns_[i].title;
      if (std::count(left_out.begin(), left_out.end(), title) == 0) left_out.push_back(title);
    }
  }
  const std::size_t last = kept.back();
  std::size_t room = widths[last];
  if (total > layout_.width && columns_[last].align == Align::kLeft) {
    const std::size_t others = total - room;
    room = std::max(kLeastText, layout_.width > others ? layout_.width - others : 0);
  }
  TextTable table(titles);
  for (const auto& row : rows_) {
    if (row.empty()) {
      table.add_rule();
      continue;
    }
    std::istringstream lines(wrapped(row[last], room));
    std::string line;
    for (bool first = true; first || lines; first = false) {
      const bool more = static_cast<bool>(std::getline(lines, line));
      if (!more && !first) break;
      std::vector<std::string> cells;
      for (const std::size_t i : kept) {
        cells.push_back(i == last ? (more ? line : std::string()) : first ? row[i] : std::string());
      }
      table.add_row(std::move(cells));
    }
  }
  const std::string note = "(--wide shows: " + list_text(left_out) + ")";
  return table.to_string() + (left_out.empty() ? "" : wrapped(note, layout_.width, 1) + "\n");
}

}  // namespace repquant::cli
