// What runs where in the fused form of an artifact.
#include <algorithm>

#include "base/text_table.h"
#include "cli/render.h"

namespace repquant::cli {
namespace {

std::string form_text(const FusedSite& site) {
  if (site.module.empty()) return "float";
  return site.fused ? "fused" : "portable";
}

std::string summary_text(const FusedReport& report) {
  std::int64_t macs = 0;
  for (const auto& site : report.sites) macs += site.macs;
  const auto fused = std::count_if(report.sites.begin(), report.sites.end(),
                                   [](const FusedSite& site) { return site.fused; });
  return "fused operators: " + format_percent(report.fused_share) + " of " + count_text(macs) +
         " multiply-adds, " + std::to_string(fused) + " of " +
         counted(report.sites.size(), "submodule") + "; instruction set " + report.cpu_level + "\n";
}

/// Operators of our own without their name space, as most are.
std::string short_name(const std::string& op) {
  constexpr std::string_view kOwn = "repquant::";
  return op.starts_with(kOwn) ? op.substr(kOwn.size()) : op;
}

}  // namespace

std::string with_form(const std::string& model, Form form) {
  return form == Form::kFused ? model + " (fused)" : model;
}

std::string fused_text(const FusedReport& report, const Layout& layout) {
  Table table({{"site"},
               {"part", Align::kLeft, 2},
               {"form", Align::kLeft, 1},
               {"operator"},
               {"multiply-adds", Align::kRight, 3},
               {"note"}},
              layout);
  for (const auto& site : report.sites) {
    table.add_row({site.path.empty() ? site.module : site.path,
                   site.part == SitePart::kNone ? "-" : name_of(site.part), form_text(site),
                   short_name(site.op), site.macs > 0 ? count_text(site.macs) : "-", site.reason});
  }
  return table.to_string() + "\n" + wrapped(summary_text(report), layout.width) + "\n";
}

Json fused_json(const FusedReport& report) {
  Json json;
  json["cpu_level"] = report.cpu_level;
  json["fused_share"] = report.fused_share;
  json["integer_share"] = report.integer_share;
  json["sites"] = Json::array();
  for (const auto& site : report.sites) {
    json["sites"].push_back({{"path", site.path},
                             {"module", site.module},
                             {"part", name_of(site.part)},
                             {"form", form_text(site)},
                             {"op", site.op},
                             {"integer", site.integer},
                             {"reason", site.reason},
                             {"macs", site.macs}});
  }
  return json;
}

}  // namespace repquant::cli
