// Contents of an artifact.
#include <filesystem>
#include <map>

#include "base/list_text.h"
#include "base/text_table.h"
#include "cli/render.h"
#include "format/description.h"

namespace repquant::cli {
namespace {

std::string facts_text(const std::string& path, const ArtifactReport& report,
                       const Layout& layout) {
  const ArtifactInfo& info = report.info;
  Table table({{"artifact"}, {"value"}}, layout);
  table.add_row(
      {"file", path + ", " + format_bytes(static_cast<double>(std::filesystem::file_size(path)))});
  table.add_row({"format", std::to_string(info.major_version) + "." +
                               std::to_string(info.minor_version) + ", written by repquant " +
                               info.tool_version + " with LibTorch " + info.libtorch_version});
  table.add_row({"recipe", info.recipe_name});
  table.add_row({"inputs", list_text(info.inputs)});
  table.add_row({"made from", "model with SHA-256 " + info.model_hash});
  table.add_row({"calibrated on", std::to_string(info.samples) + " of " + info.protocol +
                                      (info.synthetic ? " (synthetic)" : "")});
  table.add_row({"calibration data", "SHA-256 " + info.calibration_hash});
  if (layout.verbose) {
    table.add_row({"fold", "outputs of Linears differed by " +
                               format_scientific(info.fold_deviation) +
                               " of the largest after folding"});
  }
  table.add_row({"simulated", format_number(info.output_sqnr_db, 2) +
                                  " dB against FP32 on the samples that were fitted"});
  if (info.judgement) {
    table.add_row({"held back", format_number(info.judgement->sqnr_db, 2) + " dB on " +
                                    counted(info.judgement->samples, "sample that was not",
                                            "samples that were not")});
  }
  table.add_row({"average bits", format_number(info.coverage.average_bits, 2)});
  if (info.bit_allocation) table.add_row({"mixed bits", bit_allocation_text(*info.bit_allocation)});
  return table.to_string();
}

/// Sites that run the same operator, in one line.
std::string runtime_text(const RuntimeReport& runtime, const Layout& layout) {
  struct Group {
    int sites = 0;
    std::int64_t macs = 0;
    bool integer = false;
  };
  std::map<std::string, Group> groups;
  std::int64_t total = 0;
  for (const auto& site : runtime.sites) {
    Group& group = groups[site.op];
    ++group.sites;
    group.macs += site.macs;
    group.integer = site.integer;
    total += site.macs;
  }
  Table table({{"operator on this machine"},
               {"arithmetic"},
               {"sites", Align::kRight},
               {"multiply-adds", Align::kRight},
               {"share", Align::kRight}},
              layout);
  for (const auto& [op, group] : groups) {
    table.add_row(
        {op, group.integer ? "integer" : "float", std::to_string(group.sites),
         group.macs > 0 ? count_text(group.macs) : "-",
         total > 0 ? format_percent(static_cast<double>(group.macs) / static_cast<double>(total))
                   : "-"});
  }
  table.add_rule();
  table.add_row({"in integers", "", "", "", format_percent(runtime.integer_share)});
  std::string text = table.to_string();
  std::map<std::string, int> left;
  for (const auto& op : runtime.float_products) ++left[op];
  for (const auto& [op, count] : left) {
    text += "left in floating point: " + std::to_string(count) + " " + op + "\n";
  }
  if (!runtime.vnni) {
    text +=
        "this processor has no VNNI: products that could saturate take their exact, slower "
        "form\n";
  }
  return text;
}

std::vector<SiteReport> site_rows(const ArtifactInfo& info) {
  std::vector<SiteReport> rows;
  for (const auto& site : info.sites) rows.push_back(site.site);
  return rows;
}

}  // namespace

std::string artifact_report_text(const std::string& path, const ArtifactReport& report,
                                 const Layout& layout) {
  std::string text = facts_text(path, report, layout) + "\n" +
                     sites_text(site_rows(report.info), true, layout) + "\n" +
                     coverage_text(report.info.coverage, layout) + "\n" +
                     runtime_text(report.runtime, layout);
  if (layout.verbose) text += "\nrecipe:\n" + report.info.recipe + "\n";
  return text;
}

Json artifact_report_json(const std::string& path, const ArtifactReport& report) {
  const ArtifactInfo& info = report.info;
  Json json = result_object("inspect");
  json["model"] = path;
  json["quantized"] = true;
  json["format"] = {{"major", info.major_version}, {"minor", info.minor_version}};
  json["written_by"] = written_json(info);
  json["model_sha256"] = info.model_hash;
  json["inputs"] = info.inputs;
  json.update(results_json(info));
  json["sites"] = sites_json(site_rows(info), true);
  Json& runtime = json["runtime"];
  runtime["vnni"] = report.runtime.vnni;
  runtime["integer_share"] = report.runtime.integer_share;
  runtime["float_products"] = report.runtime.float_products;
  runtime["sites"] = Json::array();
  for (const auto& site : report.runtime.sites) {
    runtime["sites"].push_back({{"path", site.path},
                                {"module", site.module},
                                {"op", site.op},
                                {"integer", site.integer},
                                {"macs", site.macs}});
  }
  return json;
}

}  // namespace repquant::cli
