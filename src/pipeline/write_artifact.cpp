#include "pipeline/write_artifact.h"

#include <torch/csrc/jit/api/module.h>
#include <torch/version.h>

#include <map>
#include <optional>

#include "artifact/check.h"
#include "artifact/lower.h"
#include "artifact/save.h"
#include "base/atomic_file.h"
#include "base/text_table.h"
#include "data/past.h"
#include "data/preprocess.h"
#include "fit/plan_hook.h"
#include "format/description.h"
#include "format/names.h"
#include "graph/archive.h"
#include "graph/observe.h"
#include "graph/read_rows.h"
#include "pipeline/check_forms.h"
#include "recipe/json.h"
#include "repquant/version.h"
#include "tensor/cache_codes.h"
#include "tensor/deviation.h"

namespace repquant {
namespace {

void report_lowering(const LoweringCheck& check, QuantizeReport& report) {
  report.checks.push_back({.name = "sites",
                           .measured = counted(check.calls, "call") + ", codes differ by at most " +
                                       std::to_string(check.codes.largest) + " on " +
                                       format_number(100.0 * check.codes.changed_share, 4) +
                                       " % (" + check.codes.path + "), values by " +
                                       format_scientific(check.floating.relative),
                           .limit = "by 1 on " + format_number(100.0 * kChangedCodesLimit, 1) +
                                    " % and where rounding decides, values by " +
                                    format_scientific(kRelativeLimit) + " of the largest"});
  report.checks.push_back(
      {.name = "end to end",
       .measured = format_number(check.lowered_db - check.simulated_db, 1) +
                   " dB below the error of the simulation (" +
                   format_number(check.free_running_db - check.simulated_db, 1) +
                   " where rounding ties fall freely)",
       .limit = format_number(kMarginDb, 0) + " dB"});
}

ArtifactInfo artifact_info(const PreparedRun& run, const Recipe& recipe, const Lowered& lowered,
                           const LoweringCheck& check, const QuantizeReport& report) {
  ArtifactInfo info;
  info.tool_version = kVersion;
  info.libtorch_version = TORCH_VERSION;
  info.model_hash = lowered.model.source_hash;
  info.calibration_hash = run.calibration.hash;
  info.protocol = report.protocol;
  info.samples = report.samples;
  info.synthetic = report.synthetic;
  info.recipe = recipe_to_json(recipe);
  info.recipe_name = report.recipe;
  info.inputs = lowered.model.input_names;
  info.coverage = report.coverage;
  info.bit_allocation = report.bit_allocation;
  info.fold_deviation = report.fold_deviation;
  info.output_sqnr_db = report.output_sqnr_db;
  info.judgement = report.judgement;
  info.lowered_sqnr_db = check.lowered_db;
  info.changed_codes = check.codes.changed_share;
  std::map<std::string, const LoweredSite*> lowered_by_path;
  for (const auto& site : lowered.sites) lowered_by_path[site.path] = &site;
  for (const auto& site : report.sites) {
    ArtifactSite row;
    row.site = site;
    if (const auto found = lowered_by_path.find(site.path); found != lowered_by_path.end()) {
      static_cast<SiteModules&>(row) = *found->second;
    }
    info.sites.push_back(std::move(row));
  }
  return info;
}

void warn_of_portable_sites(const PortableSites& sites, const Observer& observer) {
  for (const auto& [module, reason] : sites) {
    std::string text = module;
    text.append(" stays portable when loaded fused; ").append(reason);
    observer.warn(text);
  }
}

}  // namespace

void write_artifact(PreparedRun&& given, const FittedSites& fitted, const QuantizeOptions& options,
                    const Observer& observer, QuantizeReport& report) {
  PreparedRun run = std::move(given);
  const std::vector<at::Tensor>& batch = run.checked;
  const std::vector<at::Tensor> reference = run_model(run.model, batch);
  const auto shapes = form_check_inputs(run.model, batch, reference);
  if (own_graph(run.model, run.search.sites)) run.observed = observe(run.model, batch).observed;
  compute_only_read_rows(run.model, run.observed);
  run.observed = observe(run.model, batch).observed;
  for (Site& site : run.search.sites) drop_constant(site);  // the graph has them still
  auto defaults = run.model.defaults;
  std::optional<Lowered> made =
      lower(std::move(run.model), run.search.sites, fitted.plans,
            {.observed = std::move(run.observed), .defaults = std::move(defaults)});
  const Lowered& lowered = *made;
  observer.check_interrupt();
  const PlanHook simulate = plan_hook(run.search.sites, fitted.plans);
  const LoweringCheck check = check_lowered(lowered, simulate, batch, reference);
  report_lowering(check, report);

  ArtifactInfo info = artifact_info(run, options.recipe, lowered, check, report);
  std::map<std::string, std::string> extra;
  extra[kArtifactFile] = artifact_to_json(info);
  if (run.source.preset) extra[kPresetFile] = preset_to_json(*run.source.preset);
  if (Past past = run.past; !past.empty()) {
    past.codes = options.recipe.attention.cache_bits > 0;
    for (auto& shape : past.shapes) {
      if (past.codes) shape.back() = cache_codes(at::empty({0, shape.back()})).size(-1);
    }
    extra[kCacheFile] = past_to_json(past);
  }

  std::optional<AtomicFile> file;
  file.emplace(options.output, options.force);
  save_artifact(lowered.module, extra, *file);
  observer.check_interrupt();
  made.reset();  // one copy of the weights in memory at a time
  check_reloaded(file->temporary().string(), check.outputs, batch, options.trust);
  report.checks.push_back({.name = "reload", .measured = "bit-equal", .limit = "bit-equal"});
  info.portable = check_forms(file->temporary().string(), shapes, options.trust, report);
  if (!info.portable.empty()) {
    warn_of_portable_sites(info.portable, observer);
    const torch::jit::Module module = load_archive(file->temporary().string(), options.trust);
    extra[kArtifactFile] = artifact_to_json(info);
    file.emplace(options.output, options.force);
    save_artifact(module, extra, *file);
    check_reloaded(file->temporary().string(), check.outputs, batch, options.trust);
  }
  file->commit();
}

}  // namespace repquant
