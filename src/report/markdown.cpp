// Documents as Markdown.
#include <algorithm>

#include "base/markup.h"
#include "report/document.h"
#include "report/report.h"

namespace repquant {
namespace {

std::string table_line(const std::vector<std::string>& cells) {
  std::string line = "|";
  for (const auto& cell : cells) line.append(" ").append(cell).append(" |");
  return line + "\n";
}

std::string markdown_of(const ReportText& text) { return markdown_text(text.text) + "\n"; }

std::string markdown_of(const ReportTable& table) {
  std::vector<std::string> titles, rules;
  for (const TableColumn& column : table.columns) {
    titles.push_back(markdown_text(column.title));
    rules.emplace_back(column.align == Align::kRight ? "---:" : "---");
  }
  std::string text = table_line(titles) + table_line(rules);
  for (const auto& row : table.rows) {
    std::vector<std::string> cells;
    for (const auto& cell : row) cells.push_back(markdown_text(cell));
    text += table_line(cells);
  }
  return text;
}

std::string markdown_of(const ReportBars& bars) {
  ReportTable table{.columns = {{""}, {bars.caption}}, .rows = {}};
  for (const ReportBar& bar : bars.bars) table.rows.push_back({bar.label, bar.text});
  return markdown_of(table);
}

std::string markdown_of(const ReportHistograms& all) {
  ReportTable table{.columns = {{"values"}, {"range"}}, .rows = {}};
  for (const auto& histogram : all.histograms) {
    table.rows.push_back({histogram.label, histogram.text});
  }
  return markdown_of(table);
}

/// How many cells of each row are on each level; a table with the sites follows a strip.
std::string markdown_of(const ReportStrip& strip) {
  std::string text;
  for (const auto& row : strip.rows) {
    text += markdown_text(row.name) + ": ";
    for (int level = 0; level < kLevels; ++level) {
      const auto count = std::count_if(row.cells.begin(), row.cells.end(),
                                       [&](const auto& cell) { return cell.level == level; });
      const auto edge = static_cast<std::size_t>(std::max(0, level - 1));
      text += std::to_string(count) + (level == 0 ? " below " : " from ") +
              format_number(kLevelDb[edge], 0) + " dB" + (level + 1 < kLevels ? ", " : "\n\n");
    }
  }
  return text;
}

std::string markdown_of(const ReportCode& code) {
  // A fence longer than any in the text.
  std::string fence = "```";
  while (code.text.find(fence) != std::string::npos) fence += '`';
  return fence + "\n" + code.text + "\n" + fence + "\n";
}

}  // namespace

std::string report_markdown(const Json& result) {
  const Document document = document_of(result);
  std::string text =
      std::string(kMarkdownReportBeginning) + "\n## " + markdown_text(document.title) + "\n";
  ReportTable headline{.columns = {}, .rows = {{}}};
  for (const ReportFact& fact : document.headline) {
    headline.columns.push_back({fact.meaning});
    headline.rows.front().push_back(fact.value);
  }
  text += "\n" + markdown_of(headline);
  for (const ReportSection& section : document.sections) {
    if (section.blocks.empty()) continue;
    text += "\n### " + markdown_text(section.title) + "\n";
    for (const ReportBlock& block : section.blocks) {
      text += "\n" + std::visit([](const auto& part) { return markdown_of(part); }, block);
    }
  }
  return text;
}

}  // namespace repquant
