#include "pipeline/result_json.h"

#include <string>

#include "format/report_json.h"
#include "recipe/names.h"

namespace repquant {
namespace {

Json histogram_json(const InputHistogram& histogram) {
  Json json{
      {"path", histogram.path},       {"operand", histogram.operand}, {"channel", nullptr},
      {"lower", histogram.lower},     {"upper", histogram.upper},     {"grid", nullptr},
      {"clipped", histogram.clipped}, {"before", histogram.before},   {"after", histogram.after}};
  if (histogram.channel) json["channel"] = *histogram.channel;
  if (histogram.grid) json["grid"] = {histogram.grid->first, histogram.grid->second};
  return json;
}

}  // namespace

Json quantize_json(const QuantizeReport& report) {
  Json json = result_object("quantize");
  json["output"] = report.output;
  json["recipe"] = report.recipe;
  if (report.clipping) json["clipping"] = std::string(name_of(*report.clipping));
  json["protocol"] = report.protocol;
  json["samples"] = report.samples;
  json["synthetic"] = report.synthetic;
  json["coverage"] = coverage_json(report.coverage);
  if (report.bit_allocation) json["mixed"] = bit_allocation_json(*report.bit_allocation);
  if (report.learning) {
    json["learning"] = {{"steps", report.learning->steps},
                        {"loss_before", report.learning->loss_before},
                        {"loss_after", report.learning->loss_after},
                        {"kept", report.learning->kept}};
  }
  json["sites"] = sites_json(report.sites, true);
  for (const auto& histogram : report.histograms) {
    json["histograms"].push_back(histogram_json(histogram));
  }
  json["fold_deviation"] = report.fold_deviation;
  json["output_sqnr_db"] = report.output_sqnr_db;
  if (report.judgement) json["held_back"] = judgement_json(*report.judgement);
  json["checks"] = Json::array();
  for (const auto& check : report.checks) {
    json["checks"].push_back({{"name", check.name},
                              {"measured", check.measured},
                              {"limit", check.limit},
                              {"passed", true}});
  }
  json["seconds"] = report.seconds;
  json["fit_seconds"] = report.fit_seconds;
  json["float_seconds"] = report.float_seconds;
  json["time_multiple"] =
      report.float_seconds > 0 ? Json(report.seconds / report.float_seconds) : Json(nullptr);
  json["peak_memory_bytes"] = report.peak_memory_bytes;
  json["model_bytes"] = report.model_bytes;
  json["output_bytes"] = report.output_bytes;
  json["size_ratio"] =
      static_cast<double>(report.output_bytes) / static_cast<double>(report.model_bytes);
  return json;
}

}  // namespace repquant
