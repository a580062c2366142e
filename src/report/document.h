// A report as a value: what is said, apart from how it is written. One rule makes it of the JSON
// that --json gives, two others write it as a page and as Markdown.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/json_text.h"
#include "base/text_table.h"

namespace repquant {

struct ReportText {
  std::string text;
};

struct ReportTable {
  std::vector<TableColumn> columns;
  std::vector<std::vector<std::string>> rows;
};

/// How good a figure is, from 0 (lost) to kLevels - 1; kNoLevel: it is not judged.
inline constexpr int kLevels = 5;
inline constexpr int kNoLevel = -1;

/// SQNR in dB from which on a level begins; below the first one is level 0.
inline constexpr std::array<double, kLevels - 1> kLevelDb{6.0, 12.0, 20.0, 30.0};
int level_of_db(double sqnr_db);

struct ReportBar {
  std::string label;
  double value = 0.0;  // >= 0
  std::string text;    // the value in words
  int level = kNoLevel;
  std::optional<std::pair<double, double>> interval{};  // drawn over the bar
};

/// Bars on one scale.
struct ReportBars {
  std::string caption;  // what their length is
  std::string drawn{};  // what the page draws how; no part of Markdown, which has the texts alone
  std::vector<ReportBar> bars;
  double from = 0.0;  // where the scale begins; elsewhere than at zero values are points, not bars
};

/// Two distributions over the same bins, one over the other.
struct ReportHistogram {
  std::string label;
  std::string text;                                  // edges and share beyond the grid, in words
  std::vector<double> before, after;                 // shares of the values, one for each bin
  std::optional<std::pair<double, double>> marks{};  // places on the axis, 0 to 1
};

struct ReportHistograms {
  std::vector<ReportHistogram> histograms;
};

/// The network from its input to its output, a cell for each site.
struct ReportStrip {
  struct Cell {
    std::string text;  // shown when pointed at
    int level = kNoLevel;
  };
  struct Row {
    std::string name;
    std::vector<Cell> cells;
  };
  std::vector<Row> rows;  // of equal length
};

/// Text as it is, such as a recipe.
struct ReportCode {
  std::string text;
};

using ReportBlock =
    std::variant<ReportText, ReportTable, ReportBars, ReportHistograms, ReportStrip, ReportCode>;

struct ReportSection {
  std::string title;
  std::vector<ReportBlock> blocks;
};

/// A figure of the headline and what it is.
struct ReportFact {
  std::string value;
  std::string meaning;
};

struct Document {
  std::string title;
  std::vector<ReportFact> headline;
  std::vector<ReportSection> sections;
};

/// The report of a result of quantize, evaluate, benchmark, analyze or run. Keys that a result does
/// not have are left out of the report. Throws Error kUsage for JSON that is none of these.
Document document_of(const Json& result);

}  // namespace repquant
