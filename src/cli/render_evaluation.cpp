// Results of evaluate.
#include <filesystem>

#include "base/text_table.h"
#include "cli/render.h"

namespace repquant::cli {
namespace {

std::string interval_text(const Interval& interval) {
  return format_number(100.0 * interval.lower, 1) + " - " +
         format_number(100.0 * interval.upper, 1);
}

std::string signed_points(double share) {
  const std::string sign = share > 0 ? "+" : "";
  return sign + format_number(100.0 * share, 2);
}

Json proportion_json(const Proportion& p) {
  return {{"value", p.value},
          {"count", p.count},
          {"total", p.total},
          {"interval95", {p.interval.lower, p.interval.upper}}};
}

Json model_json(const ModelEvaluation& model, std::int64_t samples) {
  Json json;
  json["model"] = model.model;
  json["file_bytes"] = model.file_bytes;
  json["seconds"] = model.seconds;
  json["seconds_per_sample"] = model.seconds / static_cast<double>(samples);
  if (model.accuracy) {
    json["top1"] = proportion_json(model.accuracy->top1);
    if (model.accuracy->top5) json["top5"] = proportion_json(*model.accuracy->top5);
  }
  if (model.agreement) {
    json["agreement"] = proportion_json(model.agreement->top1);
    json["kl"] = model.agreement->mean_kl;
    json["sqnr_db"] = model.agreement->sqnr_db;  // null: no difference at all
    if (const auto& difference = model.agreement->difference) {
      json["top1_difference"] = {
          {"value", difference->difference},
          {"standard_error", difference->standard_error},
          {"interval95", {difference->interval.lower, difference->interval.upper}},
          {"gained", difference->gained},
          {"lost", difference->lost}};
    }
  }
  return json;
}

std::vector<std::string> cells_of(const ModelEvaluation& model, const EvaluationReport& report) {
  std::vector<std::string> cells{std::filesystem::path(model.model).filename().string(),
                                 format_bytes(static_cast<double>(model.file_bytes))};
  if (report.labelled) {
    const Accuracy& accuracy = model.accuracy.value();
    cells.push_back(format_number(100.0 * accuracy.top1.value, 2));
    cells.push_back(interval_text(accuracy.top1.interval));
    cells.push_back(accuracy.top5 ? format_number(100.0 * accuracy.top5->value, 2) : "-");
  }
  if (report.reference) {
    if (!model.agreement) {
      cells.resize(cells.size() + (report.labelled ? 5U : 3U), "-");
    } else {
      const Agreement& agreement = *model.agreement;
      cells.push_back(format_number(100.0 * agreement.top1.value, 2));
      cells.push_back(format_number(agreement.mean_kl, 4));
      cells.push_back(format_number(agreement.sqnr_db, 2));
      if (report.labelled) {
        const PairedDifference& difference = agreement.difference.value();
        cells.push_back(signed_points(difference.difference));
        cells.push_back(interval_text(difference.interval));
      }
    }
  }
  cells.push_back(format_number(1e3 * model.seconds / static_cast<double>(report.samples), 2));
  return cells;
}

}  // namespace

std::string evaluation_text(const EvaluationReport& report) {
  std::vector<TableColumn> columns{{"model"}, {"size", Align::kRight}};
  if (report.labelled) {
    columns.push_back({"top-1 %", Align::kRight});
    columns.push_back({"95 % interval", Align::kRight});
    columns.push_back({"top-5 %", Align::kRight});
  }
  if (report.reference) {
    columns.push_back({"agreement %", Align::kRight});
    columns.push_back({"KL", Align::kRight});
    columns.push_back({"SQNR dB", Align::kRight});
    if (report.labelled) {
      columns.push_back({"top-1 change", Align::kRight});
      columns.push_back({"95 % interval", Align::kRight});
    }
  }
  columns.push_back({"ms/sample", Align::kRight});
  TextTable table(columns);
  if (report.reference) {
    table.add_row(cells_of(*report.reference, report));
    table.add_rule();
  }
  for (const auto& model : report.models) table.add_row(cells_of(model, report));
  return "protocol: " + report.protocol + "\n" + table.to_string();
}

Json evaluation_json(const EvaluationReport& report) {
  Json json = result_object("evaluate");
  json["protocol"] = report.protocol;
  json["samples"] = report.samples;
  json["labelled"] = report.labelled;
  json["reference"] =
      report.reference ? model_json(*report.reference, report.samples) : Json(nullptr);
  json["models"] = Json::array();
  for (const auto& model : report.models) {
    json["models"].push_back(model_json(model, report.samples));
  }
  return json;
}

}  // namespace repquant::cli
