// What runs where when repquant::load() has rewritten an artifact.
#include <torch/csrc/jit/api/module.h>

#include <algorithm>
#include <map>

#include "pipeline/form_reports.h"
#include "repquant/artifact.h"
#include "repquant/load.h"

namespace repquant {
namespace {

struct Role {
  const ArtifactSite* site = nullptr;
  SitePart part = SitePart::kNone;
};

/// Which site each submodule works for; a site's own submodule before those that serve it.
std::map<std::string, Role> roles_of(const std::vector<ArtifactSite>& sites) {
  std::map<std::string, Role> roles;
  for (const auto& site : sites) roles.try_emplace(site.module, Role{&site, SitePart::kSite});
  for (const auto& site : sites) {
    roles.try_emplace(site.input_module, Role{&site, SitePart::kInputCodes});
    roles.try_emplace(site.side_module, Role{&site, SitePart::kSideColumns});
    roles.try_emplace(site.scale_module, Role{&site, SitePart::kRowScales});
  }
  roles.erase("");
  return roles;
}

FusedSite describe(const LoadedSite& loaded, const std::map<std::string, Role>& roles,
                   const RuntimeReport& portable) {
  FusedSite row{.path = "",
                .module = loaded.module,
                .part = SitePart::kNone,
                .op = loaded.op,
                .fused = loaded.fused,
                .integer = loaded.fused,
                .reason = loaded.reason,
                .macs = 0};
  if (const auto role = roles.find(loaded.module); role != roles.end()) {
    row.path = role->second.site->site.path;
    row.part = role->second.part;
    if (row.part == SitePart::kSite) {
      row.macs = role->second.site->site.macs;
      if (role->second.site->input == SiteInput::kFloat) row.integer = false;
    }
  }
  const auto same =
      std::find_if(portable.sites.begin(), portable.sites.end(),
                   [&](const RuntimeSite& site) { return site.module == loaded.module; });
  if (!row.fused && same != portable.sites.end()) {
    row.op = same->op;
    row.integer = same->integer;
  }
  return row;
}

double share(std::int64_t part, std::int64_t total) {
  return total > 0 ? static_cast<double>(part) / static_cast<double>(total) : 0.0;
}

}  // namespace

FusedReport fused_report(const LoadReport& loaded, const ArtifactReport& artifact) {
  FusedReport report{.cpu_level = loaded.cpu_level, .sites = {}};
  const auto roles = roles_of(artifact.info.sites);
  std::int64_t fused = 0, integer = 0, quantized = 0, all = 0;
  for (const auto& site : loaded.sites) {
    const FusedSite row = describe(site, roles, artifact.runtime);
    quantized += row.macs;
    if (row.fused) fused += row.macs;
    if (row.integer) integer += row.macs;
    report.sites.push_back(row);
  }
  all = quantized;
  for (const auto& site : artifact.info.sites) {
    if (!site.module.empty()) continue;
    all += site.site.macs;
    report.sites.push_back({.path = site.site.path,
                            .module = "",
                            .part = SitePart::kSite,
                            .op = "float32",
                            .reason = site.site.note.empty() ? "not quantized" : site.site.note,
                            .macs = site.site.macs});
  }
  report.fused_share = share(fused, all);
  report.integer_share = share(integer, quantized);
  return report;
}

FusedReport inspect_fused(const std::string& path, const ArtifactReport& artifact, bool trust) {
  LoadReport loaded;
  load(path, {.trust = trust}, &loaded);
  return fused_report(loaded, artifact);
}

}  // namespace repquant
