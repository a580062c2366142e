// repquant inspect: what of a model would be quantized, or what an artifact holds.
#include <CLI/App.hpp>
#include <cstdlib>
#include <optional>
#include <ostream>

#include "cli/command.h"
#include "cli/recipe_options.h"
#include "cli/render.h"
#include "cli/sample_options.h"
#include "evaluate/model_file.h"
#include "repquant/artifact.h"
#include "repquant/error.h"
#include "repquant/quantize.h"

namespace repquant::cli {
namespace {

struct InspectOptions {
  bool runtime = false;
  PreviewOptions preview;
  SampleOptions samples;
  std::shared_ptr<RecipeOptions> recipe;
};

void inspect_model(const Context& context, PreviewOptions options, const Recipe& recipe) {
  options.recipe = recipe;
  options.threads = context.threads;
  options.trust = context.trust;
  const Preview result = preview(options);
  if (!result.proven) {
    context.log.warning(
        "structure only: operations are not counted and folds not proven; give --data, "
        "--input-shape or a preset");
  }
  if (context.json) {
    Json json = result_object("inspect");
    json["model"] = options.model;
    json["quantized"] = false;
    json["proven"] = result.proven;
    json["recipe"] = recipe.name;
    json["coverage"] = coverage_json(result.coverage);
    json["sites"] = sites_json(result.sites, false);
    write_json(*context.out, json);
    return;
  }
  *context.out << sites_text(result.sites, false, context.layout) << "\n"
               << coverage_text(result.coverage, context.layout)
               << next_command({"quantize", options.model, "--bits", "w8a8", "--calib", "DATA"},
                               context.layout);
}

/// There is a fused form of artifacts only; a file that cannot be read says so itself.
[[noreturn]] void refuse_runtime(const std::string& path, bool trusted) {
  check_model_file(path, trusted);
  throw Error(ErrorKind::kUnsupported,
              {.what = "only an artifact of repquant has a fused form",
               .where = path,
               .expected = "a file written by repquant quantize",
               .got = "a floating-point model",
               .hint = "quantize it first, or leave out --runtime to see what would be quantized"});
}

/// An artifact is shown as it is: what was typed to look at a model differently would be ignored.
void refuse_other_options(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    const bool common = option->get_group() == "Common options" || option->get_positional();
    const bool typed = option->count() > 0 && std::getenv(option->get_envname().c_str()) == nullptr;
    if (common || !typed || option->check_lname("runtime")) continue;
    throw Error(ErrorKind::kUsage, {.what = "the option has no effect on an artifact",
                                    .where = option->get_name(),
                                    .expected = "a floating-point model",
                                    .hint = "leave it out, or inspect the model that the artifact "
                                            "was made from"});
  }
}

void inspect_file(const Context& context, const std::string& path, bool runtime) {
  const ArtifactReport report = inspect_artifact(path, context.trust);
  std::optional<FusedReport> fused;
  if (runtime) fused = inspect_fused(path, report, context.trust);
  if (context.json) {
    Json json = artifact_report_json(path, report);
    if (fused) json["fused"] = fused_json(*fused);
    write_json(*context.out, json);
  } else if (fused) {
    *context.out << fused_text(*fused, context.layout);
  } else {
    *context.out << artifact_report_text(path, report, context.layout)
                 << next_command({"evaluate", path, "--reference", "MODEL", "--data", "DATA"},
                                 context.layout);
  }
}

}  // namespace

Command add_inspect(CLI::App& parent) {
  Command command;
  command.app = parent.add_subcommand(
      "inspect", "Show the sites and coverage of a model, or the contents of an artifact");
  CLI::App& app = *command.app;
  auto options = std::make_shared<InspectOptions>();
  PreviewOptions& preview_options = options->preview;
  app.add_option("MODEL", preview_options.model, "TorchScript file, quantized or not")->required();
  app.add_option("--data", options->samples.data,
                 "data to run the model on, as for quantize --calib")
      ->type_name("DATA");
  app.add_option("--input-shape", options->samples.input_shape,
                 "shape of one random sample to run the model on, such as 3,224,224")
      ->type_name("SIZES")
      ->delimiter(',');
  app.add_option("--preprocess", preview_options.preset,
                 "preprocessing preset (default: the model's own)")
      ->type_name("FILE");
  app.add_flag("--runtime", options->runtime,
               "load an artifact in its fused form and show, site by site, which operator runs it");
  add_token_options(app, options->samples.tokens);
  options->recipe = add_recipe_options(app, false);
  command.example = "repquant inspect vit.pt --data images/";
  command.common = add_common_options(app);
  command.run = [options](const Context& context) {
    if (is_artifact(options->preview.model)) {
      refuse_other_options(*options->recipe->app);
      inspect_file(context, options->preview.model, options->runtime);
      return;
    }
    if (options->runtime) refuse_runtime(options->preview.model, context.trust);
    options->preview.data = samples_of(options->samples);
    inspect_model(context, options->preview, resolve(*options->recipe).recipe);
  };
  return command;
}

}  // namespace repquant::cli
