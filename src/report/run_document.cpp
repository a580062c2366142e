#include <algorithm>

#include "report/documents.h"
#include "report/values.h"

namespace repquant {
namespace {

std::vector<std::string> metric_names(const Json& result) {
  std::vector<std::string> names;
  for (const Json& row : items_at(result, "rows")) {
    const Json& metrics = value_at(row, "metrics");
    if (!metrics.is_object()) continue;
    for (const auto& item : metrics.items()) {
      if (std::find(names.begin(), names.end(), item.key()) == names.end()) {
        names.push_back(item.key());
      }
    }
  }
  return names;
}

ReportTable rows_table(const Json& result) {
  ReportTable table{
      .columns = {{"model"}, {"row"}, {"status"}, {"size", Align::kRight}, {"time", Align::kRight}},
      .rows = {}};
  const std::vector<std::string> metrics = metric_names(result);
  for (const auto& name : metrics) table.columns.push_back({name, Align::kRight});
  table.columns.push_back({"remark"});
  for (const Json& row : items_at(result, "rows")) {
    std::vector<std::string> cells{text_at(row, "model"), text_at(row, "row"),
                                   text_at(row, "status"), bytes_text(row, "bytes"),
                                   seconds_text(row, "seconds")};
    for (const auto& name : metrics) {
      cells.push_back(number_text(value_at(row, "metrics"), name, 4));
    }
    cells.push_back(text_at(row, "error") +
                    (value_at(row, "resumed") == Json(true) ? "not run again" : ""));
    table.rows.push_back(std::move(cells));
  }
  return table;
}

ReportTable gates_of_rows(const Json& result) {
  ReportTable table{.columns = {{"model"},
                                {"row"},
                                {"gate"},
                                {"limit", Align::kRight},
                                {"measured", Align::kRight},
                                {"met"}},
                    .rows = {}};
  for (const Json& row : items_at(result, "rows")) {
    for (const Json& gate : items_at(row, "gates")) {
      table.rows.push_back({text_at(row, "model"), text_at(row, "row"), text_at(gate, "gate"),
                            number_text(gate, "limit", 4), number_text(gate, "value", 4),
                            value_at(gate, "passed") == Json(true) ? "yes" : "NO"});
    }
  }
  return table;
}

ReportTable protocols_table(const Json& result) {
  ReportTable table{.columns = {{"model"}, {"row"}, {"evaluated on"}}, .rows = {}};
  for (const Json& row : items_at(result, "rows")) {
    const std::string protocol = text_at(row, "protocol");
    if (protocol.empty()) continue;
    table.rows.push_back({text_at(row, "model"), text_at(row, "row"), protocol});
  }
  return table;
}

}  // namespace

Document run_document(const Json& result) {
  Document document{.title = "Run of a plan", .headline = {}, .sections = {}};
  document.headline = {{number_text(result, "passed", 0), "rows passed"},
                       {number_text(result, "missed", 0), "missed a gate"},
                       {number_text(result, "failed", 0), "failed"}};
  document.sections.push_back({.title = "Rows", .blocks = {rows_table(result)}});
  if (auto gates = gates_of_rows(result); !gates.rows.empty()) {
    document.sections.push_back({.title = "Gates", .blocks = {std::move(gates)}});
  }
  if (auto protocols = protocols_table(result); !protocols.rows.empty()) {
    document.sections.push_back(
        {.title = "How each figure was measured", .blocks = {std::move(protocols)}});
  }
  return document;
}

}  // namespace repquant
