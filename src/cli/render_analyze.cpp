// Results of analyze.
#include <cmath>

#include "base/text_table.h"
#include "cli/render.h"

namespace repquant::cli {
namespace {

std::string decibels(double value) { return std::isfinite(value) ? format_number(value, 1) : "-"; }

std::string small(double value) { return format_significant(value, 2); }

Json row_json(const SensitivityRow& row) {
  return {{"path", row.path},
          {"kind", row.kind},
          {"weight_bits", row.weight_bits},
          {"activation_bits", row.activation_bits},
          {"parameters", row.parameters},
          {"macs", row.macs},
          {"local_sqnr_db", row.local_sqnr_db},
          {"output_sqnr_db", row.output_sqnr_db},
          {"kl", row.kl},
          {"share", row.share},
          {"cumulative_sqnr_db", row.cumulative_sqnr_db},
          {"cumulative_kl", row.cumulative_kl},
          {"chosen_weight_bits", row.chosen_weight_bits},
          {"chosen_activation_bits", row.chosen_activation_bits}};
}

}  // namespace

std::string analyze_text(const AnalyzeReport& report, const Layout& layout) {
  Table table({{"site"},
               {"kind", Align::kLeft, 7},
               {"bits"},
               {"parameters", Align::kRight, 6},
               {"multiply-adds", Align::kRight, 6},
               {"local SQNR dB", Align::kRight, 5},
               {"output SQNR dB", Align::kRight, 4},
               {"KL", Align::kRight},
               {"share", Align::kRight},
               {"cumulative SQNR dB", Align::kRight, 8},
               {"cumulative KL", Align::kRight, 8},
               {"recommended"}},
              layout);
  for (const SensitivityRow& row : report.sites) {
    table.add_row({row.path, row.kind, bits_text(row.weight_bits, row.activation_bits),
                   row.parameters > 0 ? count_text(row.parameters) : "-",
                   row.macs > 0 ? count_text(row.macs) : "-", decibels(row.local_sqnr_db),
                   decibels(row.output_sqnr_db), small(row.kl), format_percent(row.share),
                   decibels(row.cumulative_sqnr_db), small(row.cumulative_kl),
                   bits_text(row.chosen_weight_bits, row.chosen_activation_bits)});
  }
  std::string text = wrapped("sites alone, all else FP32; outputs by second-order estimate, on " +
                                 std::to_string(report.samples) + " of " + report.protocol,
                             layout.width) +
                     "\n" + table.to_string() + "\n";
  Table result({{"recommended"}, {"value"}}, layout);
  result.add_row({"weights", format_number(report.chosen.weight_bits, 2) + " bits, target " +
                                 format_number(report.target_weight_bits, 2) +
                                 " (mean over elements)"});
  result.add_row({"activations", format_number(report.chosen.activation_bits, 2) +
                                     " bits, target " +
                                     format_number(report.target_activation_bits, 2) +
                                     " (mean over multiply-adds)"});
  result.add_row({"estimate", decibels(report.chosen.estimated_sqnr_db) + " dB, KL " +
                                  small(report.chosen.estimated_kl)});
  if (!report.output.empty()) result.add_row({"recipe", report.output});
  result.add_row({"time", format_duration(report.seconds)});
  return text + result.to_string();
}

Json analyze_json(const AnalyzeReport& report) {
  Json json = result_object("analyze");
  json["protocol"] = report.protocol;
  json["samples"] = report.samples;
  json["sites"] = Json::array();
  for (const SensitivityRow& row : report.sites) json["sites"].push_back(row_json(row));
  json["recommended"] = {{"target_weight_bits", report.target_weight_bits},
                         {"target_activation_bits", report.target_activation_bits},
                         {"weight_bits", report.chosen.weight_bits},
                         {"activation_bits", report.chosen.activation_bits},
                         {"estimated_sqnr_db", report.chosen.estimated_sqnr_db},
                         {"estimated_kl", report.chosen.estimated_kl}};
  json["output"] = report.output.empty() ? Json(nullptr) : Json(report.output);
  json["seconds"] = report.seconds;
  return json;
}

}  // namespace repquant::cli
