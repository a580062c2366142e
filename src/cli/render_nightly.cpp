// Summaries of run: table, JSON, Markdown, JUnit XML.
#include <algorithm>
#include <array>

#include "base/markup.h"
#include "base/text_table.h"
#include "cli/render.h"
#include "evaluate/result_json.h"

namespace repquant::cli {
namespace {

/// A metric as a column, if any row has it.
struct MetricColumn {
  const char* metric;
  const char* title;
  double factor;
  int decimals;
};

constexpr std::array<MetricColumn, 11> kColumns{{
    {"coverage", "coverage %", 100.0, 1},
    {"size_ratio", "size ratio", 1.0, 3},
    {"top1", "top-1 %", 100.0, 2},
    {"ppl", "perplexity", 1.0, 3},
    {"ppl_ratio", "ratio", 1.0, 4},
    {"spearman", "Spearman", 1.0, 4},
    {"recall1", "recall@1 %", 100.0, 2},
    {"agreement", "agreement %", 100.0, 2},
    {"kl", "KL", 1.0, 4},
    {"cosine", "cosine", 1.0, 4},
    {"sqnr_db", "SQNR dB", 1.0, 2},
}};

const Metric* find_metric(const RowResult& row, std::string_view name) {
  const auto found = std::find_if(row.metrics.begin(), row.metrics.end(),
                                  [&](const Metric& metric) { return metric.name == name; });
  return found == row.metrics.end() ? nullptr : &*found;
}

std::vector<MetricColumn> columns_of(const NightlyReport& report) {
  std::vector<MetricColumn> columns;
  for (const auto& column : kColumns) {
    const auto has = [&](const RowResult& row) {
      return find_metric(row, column.metric) != nullptr;
    };
    if (std::any_of(report.rows.begin(), report.rows.end(), has)) columns.push_back(column);
  }
  return columns;
}

/// What of a row has to be said in words: missed gates, or the error in one line.
std::string remark_of(const RowResult& row) {
  std::string text = row.error;
  std::replace(text.begin(), text.end(), '\n', ' ');
  std::size_t met = 0;
  for (const auto& gate : row.gates) {
    if (gate.passed) {
      ++met;
    } else {
      if (!text.empty()) text += "; ";
      text += gate_text(gate);
    }
  }
  if (text.empty() && met > 0) text = counted(met, "gate met", "gates met");
  if (row.resumed) text += text.empty() ? "not run again" : ", not run again";
  return text;
}

std::vector<std::string> titles_of(const std::vector<MetricColumn>& columns) {
  std::vector<std::string> titles{"model", "row", "status", "size"};
  for (const auto& column : columns) titles.emplace_back(column.title);
  titles.emplace_back("remark");
  return titles;
}

std::vector<std::string> cells_of(const RowResult& row, const std::vector<MetricColumn>& columns) {
  std::vector<std::string> cells{
      row.model, row.label, name_of(row.status),
      row.bytes > 0 ? format_bytes(static_cast<double>(row.bytes)) : "-"};
  for (const auto& column : columns) {
    const Metric* metric = find_metric(row, column.metric);
    cells.push_back(
        metric == nullptr ? "-" : format_number(column.factor * metric->value, column.decimals));
  }
  cells.push_back(remark_of(row));
  return cells;
}

/// ", 3 to be run" for a plan that was only looked at.
std::string planned_text(const NightlyReport& report) {
  const auto planned = std::count_if(report.rows.begin(), report.rows.end(), [](const auto& row) {
    return row.status == RowStatus::kPlanned;
  });
  return planned > 0 ? ", " + std::to_string(planned) + " to be run" : "";
}

std::string totals(const NightlyReport& report) {
  return counted(report.rows.size(), "row") + ": " + std::to_string(report.passed) + " passed, " +
         std::to_string(report.missed) + " missed a gate, " + std::to_string(report.failed) +
         " failed" + planned_text(report);
}

std::string attribute(const char* name, const std::string& value) {
  std::string text(" ");
  return text.append(name).append("=\"").append(markup_text(value)).append("\"");
}

/// Seconds that this run spent on a row.
double seconds_of(const RowResult& row) { return row.resumed ? 0.0 : row.seconds; }

std::string junit_case(const RowResult& row) {
  std::string text = "    <testcase" + attribute("classname", row.model) +
                     attribute("name", row.label) +
                     attribute("time", format_number(seconds_of(row), 3));
  if (row.status == RowStatus::kPassed) return text + "/>\n";
  if (row.status == RowStatus::kPlanned) return text + "><skipped/></testcase>\n";
  const char* element = row.status == RowStatus::kFailed ? "error" : "failure";
  return text + ">\n      <" + element + attribute("message", remark_of(row)) + "/>\n" +
         "    </testcase>\n";
}

}  // namespace

std::string nightly_text(const NightlyReport& report, const Layout& layout) {
  const std::vector<MetricColumn> columns = columns_of(report);
  std::vector<Column> titles;
  for (auto& title : titles_of(columns)) titles.push_back({std::move(title), Align::kRight});
  for (std::size_t i = 3; i + 1 < titles.size(); ++i) titles[i].rank = static_cast<int>(i);
  for (const std::size_t left :
       {std::size_t{0}, std::size_t{1}, std::size_t{2}, titles.size() - 1}) {
    titles[left].align = Align::kLeft;
  }
  Table table(titles, layout);
  for (const auto& row : report.rows) table.add_row(cells_of(row, columns));
  return table.to_string() + totals(report) + "\n";
}

std::string nightly_markdown(const NightlyReport& report) {
  const std::vector<MetricColumn> columns = columns_of(report);
  const auto line = [](const std::vector<std::string>& cells) {
    std::string text = "|";
    for (const auto& cell : cells) text.append(" ").append(markdown_text(cell)).append(" |");
    return text + "\n";
  };
  const std::vector<std::string> titles = titles_of(columns);
  std::string text = line(titles) + "|";
  for (std::size_t i = 0; i < titles.size(); ++i) text += " --- |";
  text += "\n";
  for (const auto& row : report.rows) text += line(cells_of(row, columns));
  return text + "\n" + totals(report) + "\n";
}

std::string nightly_junit(const NightlyReport& report) {
  const auto counts = [](std::size_t tests, std::int64_t missed, std::int64_t failed,
                         double seconds) {
    return attribute("tests", std::to_string(tests)) +
           attribute("failures", std::to_string(missed)) +
           attribute("errors", std::to_string(failed)) +
           attribute("time", format_number(seconds, 3));
  };
  double total = 0.0;
  for (const RowResult& row : report.rows) total += seconds_of(row);
  std::string text =
      kJunitBeginning + counts(report.rows.size(), report.missed, report.failed, total) + ">\n";
  for (std::size_t begin = 0; begin < report.rows.size();) {
    std::string cases;
    std::int64_t missed = 0, failed = 0;
    double seconds = 0.0;
    std::size_t end = begin;
    for (; end < report.rows.size() && report.rows[end].model == report.rows[begin].model; ++end) {
      cases += junit_case(report.rows[end]);
      seconds += seconds_of(report.rows[end]);
      if (report.rows[end].status == RowStatus::kMissed) ++missed;
      if (report.rows[end].status == RowStatus::kFailed) ++failed;
    }
    text += "  <testsuite" + attribute("name", report.rows[begin].model) +
            counts(end - begin, missed, failed, seconds) + ">\n" + cases + "  </testsuite>\n";
    begin = end;
  }
  return text + "</testsuites>\n";
}

Json nightly_json(const NightlyReport& report) {
  Json json = result_object("run");
  json["passed"] = report.passed;
  json["missed"] = report.missed;
  json["failed"] = report.failed;
  json["calibrations"] = report.calibrations;
  json["rows"] = Json::array();
  for (const auto& row : report.rows) {
    Json item;
    item["model"] = row.model;
    item["row"] = row.label;
    item["status"] = name_of(row.status);
    item["resumed"] = row.resumed;
    item["artifact"] = row.artifact;
    item["bytes"] = row.bytes;
    item["seconds"] = row.seconds;
    item["protocol"] = row.protocol;
    item["error"] = row.error.empty() ? Json(nullptr) : Json(row.error);
    item["metrics"] = Json::object();
    for (const auto& metric : row.metrics) item["metrics"][metric.name] = metric.value;
    item["gates"] = Json::array();
    for (const auto& gate : row.gates) item["gates"].push_back(gate_json(gate));
    json["rows"].push_back(std::move(item));
  }
  return json;
}

}  // namespace repquant::cli
