// repquant analyze: which sites suffer most from quantization, and which bits they should get.
#include <ostream>

#include "base/overwrite.h"
#include "cli/command.h"
#include "cli/observer.h"
#include "cli/option_names.h"
#include "cli/recipe_options.h"
#include "cli/render.h"
#include "cli/report_option.h"
#include "cli/sample_options.h"
#include "recipe/bit_width.h"
#include "recipe/json.h"
#include "repquant/analyze.h"

namespace repquant::cli {
namespace {

struct AnalyzeCommandOptions {
  AnalyzeOptions analyze;
  SampleOptions samples;
  std::string candidates;
  std::string target_bits;
  std::shared_ptr<RecipeOptions> recipe;
  std::shared_ptr<std::string> report;
};

void run_analyze(const Context& context, const AnalyzeCommandOptions& given) {
  AnalyzeOptions options = given.analyze;
  const ResolvedRecipe recipe = resolve(*given.recipe);
  for (const auto& warning : settings_without_effect(recipe)) {
    context.log.warning(with_option_names(warning));
  }
  options.recipe = recipe.recipe;
  options.threads = context.threads;
  options.trust = context.trust;
  options.calib = calibration_of(given.samples);
  if (std::holds_alternative<Synthetic>(options.calib)) {
    context.log.warning("ranking sites on random numbers: the order means little");
  }
  if (!given.candidates.empty()) {
    options.candidates = parse_bits_list(given.candidates, "--candidates");
  }
  if (!given.target_bits.empty()) options.target_bits = parse_target_bits(given.target_bits);
  const auto* data = std::get_if<DataPath>(&options.calib);
  check_no_input(options.output, {{"model", options.model},
                                  {"calibration data", data != nullptr ? data->path : ""},
                                  {"preset", options.preset},
                                  {"recipe", given.recipe->recipe}});
  check_outputs(context, {{"recipe", options.output}, {"report", *given.report}});
  check_report(*given.report);
  const AnalyzeReport report = analyze(options, observer_of(context));
  context.progress.finish();
  if (!given.report->empty()) {
    Json result = analyze_json(report);
    result["recipe"] = options.recipe.name;
    result["settings"] = parse_json(recipe_to_json(options.recipe), "recipe");
    write_report(*given.report, result);
  }
  if (context.json) {
    write_json(*context.out, analyze_json(report));
  } else {
    *context.out << analyze_text(report, context.layout);
    std::vector<std::string> next{"quantize", options.model, "--calib", "DATA"};
    if (options.output.empty()) {
      next.insert(next.end(), {"--target-bits", "4.5"});
    } else {
      next.insert(next.end(), {"--recipe", options.output});
    }
    *context.out << next_command(next, context.layout);
  }
}

}  // namespace

Command add_analyze(CLI::App& parent) {
  Command command;
  command.app = parent.add_subcommand(
      "analyze", "Rank the sites of a model by sensitivity, and recommend bits for each");
  CLI::App& app = *command.app;
  auto options = std::make_shared<AnalyzeCommandOptions>();
  AnalyzeOptions& analyze_options = options->analyze;
  app.add_option("MODEL", analyze_options.model, "TorchScript file")->required();
  app.add_option("--calib", options->samples.data, "calibration data, as for quantize")
      ->type_name("DATA");
  app.add_option("--candidates", options->candidates,
                 "bits to recommend from, besides --bits (default: w3a3,w4a4,w6a6,w8a8)")
      ->type_name("LIST");
  app.add_option("--target-bits", options->target_bits,
                 "largest average of the recommended bits, such as 4.5 (default: that of --bits)")
      ->type_name("BITS");
  app.add_option("-o,--output", analyze_options.output,
                 "write the recommended bits as a recipe for quantize --recipe")
      ->type_name("FILE");
  app.add_flag("--force", analyze_options.force, "replace an existing output");
  app.add_option("--input-shape", options->samples.input_shape,
                 "shape of one synthetic sample, such as 3,224,224 (default: from the preset)")
      ->type_name("SIZES")
      ->delimiter(',');
  app.add_option("--preprocess", analyze_options.preset,
                 "preprocessing preset (default: the model's own)")
      ->type_name("FILE");
  add_token_options(app, options->samples.tokens);
  options->recipe = add_recipe_options(app, true);
  options->report = add_report_option(app);
  command.example = "repquant analyze vit.pt --bits w4a4 --calib images/ -o mixed.json";
  command.common = add_common_options(app);
  command.run = [options](const Context& context) { run_analyze(context, *options); };
  return command;
}

}  // namespace repquant::cli
