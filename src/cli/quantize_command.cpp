// repquant quantize: from a TorchScript file to a verified integer artifact.
#include "repquant/quantize.h"

#include <CLI/App.hpp>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <ostream>

#include "base/overwrite.h"
#include "cli/command.h"
#include "cli/lost_results.h"
#include "cli/observer.h"
#include "cli/option_names.h"
#include "cli/recipe_options.h"
#include "cli/render.h"
#include "cli/report_option.h"
#include "cli/sample_options.h"
#include "pipeline/result_json.h"
#include "recipe/bit_width.h"
#include "repquant/artifact.h"
#include "repquant/error.h"
#include "runtime/keep_memory.h"

namespace repquant::cli {
namespace {

struct QuantizeCommandOptions {
  std::string model;
  std::string output;
  SampleOptions samples;
  std::string preset;
  std::string workdir;
  std::string min_coverage;
  std::optional<double> min_sqnr_db;
  std::string min_agreement;
  std::string target_bits;
  std::string candidates;
  std::optional<double> max_drop_kl;
  double time_limit_seconds = 0.0;
  bool resume = false;
  bool force = false;
  bool strict = false;
  bool print_config = false;
  std::shared_ptr<std::string> report;
  std::shared_ptr<RecipeOptions> recipe;
};

/// Beside the model: vit_tiny.pt becomes vit_tiny.w4a4.pt, or vit_tiny.mixed4.5.pt.
std::string default_output(const std::string& model, const std::string& bits) {
  std::filesystem::path path(model);
  const std::string name = path.stem().string() + "." + bits + ".pt";
  return path.replace_filename(name).string();
}

void print_config(const Context& context, const ResolvedRecipe& recipe, const CLI::App& app) {
  ResolvedRecipe all = recipe;
  for (auto& setting : option_settings(app)) all.settings.push_back(std::move(setting));
  if (!context.json) {
    *context.out << all.to_string();
    return;
  }
  Json json = result_object("quantize");
  for (const auto& setting : all.settings) {
    json["config"].push_back(
        {{"key", setting.key}, {"value", setting.value}, {"origin", setting.origin}});
  }
  write_json(*context.out, json);
}

[[noreturn]] void fail_without_choice() {
  throw Error(ErrorKind::kUsage, {.what = "there is nothing to choose candidates for",
                                  .where = "--candidates",
                                  .expected = "--target-bits or --max-drop-kl",
                                  .hint = "for the same bits everywhere, use --bits"});
}

QuantizeOptions to_options(const QuantizeCommandOptions& given, const Recipe& recipe, int threads) {
  QuantizeOptions options;
  options.model = given.model;
  options.recipe = recipe;
  if (!given.target_bits.empty()) {
    options.bit_allocation =
        BitAllocationOptions{.target_bits = parse_target_bits(given.target_bits)};
  } else if (given.max_drop_kl) {
    options.bit_allocation =
        BitAllocationOptions{.search = BitSearch{.max_kl = *given.max_drop_kl,
                                                 .time_limit_seconds = given.time_limit_seconds}};
  }
  if (!given.candidates.empty()) {
    if (!options.bit_allocation) fail_without_choice();
    options.bit_allocation->candidates = parse_bits_list(given.candidates, "--candidates");
  }
  const std::string bits =
      options.bit_allocation ? "mixed" + given.target_bits : to_string(recipe.bits);
  options.output = given.output.empty() ? default_output(given.model, bits) : given.output;
  options.calib = calibration_of(given.samples);
  options.preset = given.preset;
  options.threads = threads;
  options.force = given.force;
  options.strict = given.strict;
  if (!given.min_coverage.empty()) {
    options.min_coverage = parse_share(given.min_coverage, "--min-coverage");
  }
  options.min_sqnr_db = given.min_sqnr_db;
  if (!given.min_agreement.empty()) {
    options.min_agreement = parse_share(given.min_agreement, "--min-agreement");
  }
  options.workdir = given.workdir;
  options.resume = given.resume;
  return options;
}

void run_quantize(const Context& context, const QuantizeCommandOptions& given) {
  const ResolvedRecipe recipe = resolve(*given.recipe);
  if (given.print_config) {
    print_config(context, recipe, *given.recipe->app);
    return;
  }
  for (const auto& warning : settings_without_effect(recipe)) {
    context.log.warning(with_option_names(warning));
  }
  QuantizeOptions options = to_options(given, recipe.recipe, context.threads);
  options.trust = context.trust;
  options.histograms = !given.report->empty();
  check_outputs(context, {{"artifact", options.output}, {"report", *given.report}});
  check_report(*given.report);
  check_no_input(options.output, {{"recipe", given.recipe->recipe}});
  if (std::holds_alternative<Synthetic>(options.calib)) {
    context.log.warning("calibrating on random numbers: the accuracy of the result means nothing");
  }
  keep_freed_memory();
  QuantizeReport report;
  try {
    report = quantize(options, observer_of(context));
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kInterrupted || options.workdir.empty()) throw;
    ErrorParts parts = e.parts();
    parts.hint = "the same command with --resume continues from " + options.workdir;
    throw Error(e.kind(), std::move(parts));
  }
  context.progress.finish();
  for (const auto& warning : lost_results(report)) context.log.warning(warning);
  if (!given.report->empty()) {
    Json result = quantize_json(report);
    result["settings"] = parse_json(read_artifact(report.output).recipe, "recipe");
    write_report(*given.report, result);
  }
  if (context.json) {
    write_json(*context.out, quantize_json(report));
    return;
  }
  if (context.verbose) *context.out << sites_text(report.sites, true, context.layout) << "\n";
  *context.out << quantize_text(report, context.layout)
               << next_command(
                      {"evaluate", report.output, "--reference", options.model, "--data", "DATA"},
                      context.layout);
}

}  // namespace

Command add_quantize(CLI::App& parent) {
  Command command;
  command.app = parent.add_subcommand(
      "quantize", "Quantize a TorchScript model into a verified integer artifact");
  CLI::App& app = *command.app;
  auto options = std::make_shared<QuantizeCommandOptions>();
  app.add_option("MODEL", options->model, "TorchScript file")->required();
  app.add_option("-o,--output", options->output, "artifact (default: MODEL.<bits>.pt)")
      ->type_name("FILE");
  app.add_option("--calib", options->samples.data,
                 "calibration data: image folder, .npy, .npz, saved tensors, folder of those, list "
                 "file, or token ids with --window; or the word synthetic")
      ->type_name("DATA");
  app.add_option("--input-shape", options->samples.input_shape,
                 "shape of one synthetic sample, such as 3,224,224 (default: from the preset)")
      ->type_name("SIZES")
      ->delimiter(',');
  app.add_option("--preprocess", options->preset, "preprocessing preset (default: the model's own)")
      ->type_name("FILE");
  auto* target =
      app.add_option("--target-bits", options->target_bits,
                     "choose bits site by site: largest average of weights (over elements) and of "
                     "activations (over multiply-adds), such as 4.5")
          ->type_name("BITS");
  auto* workdir =
      app.add_option("--workdir", options->workdir, "folder for checkpoints")->type_name("DIR");
  auto* bound = app.add_option("--max-drop-kl", options->max_drop_kl,
                               "choose the fewest bits whose outputs diverge by at most this many "
                               "nats from FP32 on held-back calibration samples, such as 0.05")
                    ->type_name("NATS")
                    ->excludes(target)
                    ->excludes(workdir);
  app.add_option("--time-limit", options->time_limit_seconds,
                 "end the search of --max-drop-kl after this long with the best so far: 90s, 20m")
      ->type_name("TIME")
      ->transform(
          CLI::AsNumberWithUnit(std::map<std::string, double>{{"s", 1}, {"m", 60}, {"h", 3600}},
                                CLI::AsNumberWithUnit::CASE_SENSITIVE, "TIME"))
      ->check(CLI::Validator(
          [](const std::string& text) {
            const bool positive = std::strtod(text.c_str(), nullptr) > 0.0;
            return positive ? std::string() : "Value " + text + " is no time above 0, such as 20m";
          },
          ""))
      ->needs(bound);
  app.add_option("--candidates", options->candidates,
                 "bits to choose from, with the two above (default: w3a3,w4a4,w6a6,w8a8)")
      ->type_name("LIST");
  app.add_flag("--resume", options->resume, "continue from the checkpoints in --workdir")
      ->needs("--workdir");
  app.add_flag("--force", options->force, "replace an existing output");
  app.add_flag("--strict", options->strict,
               "an operator left in floating point, unless excluded, is an error");
  app.add_option("--min-coverage", options->min_coverage,
                 "smallest share of parameters, multiply-accumulates and bytes: 0.95 or 95%")
      ->type_name("SHARE");
  app.add_option("--min-sqnr", options->min_sqnr_db,
                 "smallest SQNR of the outputs on held-back calibration samples, in dB")
      ->type_name("DB")
      ->excludes(bound);
  app.add_option("--min-agreement", options->min_agreement,
                 "smallest share of rows with the same top-1 as FP32 there: 0.95 or 95%")
      ->type_name("SHARE")
      ->excludes(bound);
  app.add_flag("--print-config", options->print_config,
               "show every setting with its origin, and stop");
  add_token_options(app, options->samples.tokens);
  options->recipe = add_recipe_options(app, true);
  options->report = add_report_option(app);
  command.example = "repquant quantize vit.pt --bits w8a8 --calib images/ -o vit.w8a8.pt";
  command.common = add_common_options(app);
  command.run = [options](const Context& context) { run_quantize(context, *options); };
  return command;
}

}  // namespace repquant::cli
