#include "cli/recipe_options.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>
#include <string>

#include "base/list_text.h"
#include "base/pattern.h"
#include "cli/command.h"
#include "recipe/json.h"
#include "repquant/error.h"

namespace repquant::cli {
namespace {

/// Options that choose what to do.
const std::set<std::string> kNotListed{"help", "print-config"};

}  // namespace

std::shared_ptr<RecipeOptions> add_recipe_options(CLI::App& app, bool calibration) {
  auto options = std::make_shared<RecipeOptions>();
  options->app = &app;
  const std::string group = kRecipeGroup;
  app.add_option(
         "--bits", options->bits,
         "bits of weights and activations: wXaY, each from 2 to 8, or wXa16 for weights only")
      ->group(group)
      ->type_name("wXaY");
  app.add_option("--effort", options->effort,
                 "time spent on accuracy: fast, standard (default) or high")
      ->group(group)
      ->type_name("EFFORT");
  app.add_option("--recipe", options->recipe,
                 "a ready recipe (see repquant recipe list) or a file (JSON)")
      ->group(group)
      ->type_name("NAME|FILE");
  app.add_option("--set", options->settings,
                 "one setting of the recipe, such as norm.granularity=per_tensor; repeatable")
      ->group(group)
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--exclude", options->exclude,
                 "sites to keep in floating point, such as 'blocks.0.*'; repeatable")
      ->group(group)
      ->type_name("PATTERN")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  if (!calibration) return options;
  app.add_option("--clipping", options->clipping, "minmax, percentile, search or learned")
      ->group(group)
      ->type_name("METHOD");
  app.add_option("--calib-samples", options->calib_samples, "calibrate on a seeded draw of N")
      ->group(group)
      ->type_name("N");
  app.add_option("--batch-size", options->batch_size,
                 "calibration samples at a time; else 8, fewer where the model's values are large")
      ->group(group)
      ->type_name("N");
  app.add_option("--hold-back", options->hold_back,
                 "an eighth of the samples, at most N, is not fitted but judges; 0: none")
      ->group(group)
      ->type_name("N");
  app.add_option("--seed", options->seed, "seed of the draw")->group(group)->type_name("N");
  return options;
}

ResolvedRecipe resolve(const RecipeOptions& options) {
  RecipeSources sources;
  take_recipe(sources, options.recipe, options.recipe);
  if (sources.file && !std::filesystem::exists(*sources.file)) {
    const std::string hint = nearest_hint(options.recipe, ready_recipe_names());
    throw Error(ErrorKind::kFile,
                {.what = "the recipe file does not exist",
                 .where = "--recipe " + options.recipe,
                 .hint = hint.empty() ? "repquant recipe list names the ready ones" : hint});
  }
  std::map<std::string, std::string> given;
  for (const auto& setting : options.settings) {
    RecipeChange change = parse_setting(setting, "--set");
    const std::string where = "--set " + change.key;
    const auto [first, fresh] = given.emplace(change.key, change.value);
    if (!fresh) {
      throw Error(ErrorKind::kUsage, {.what = "a setting is given twice",
                                      .where = where,
                                      .expected = "one value",
                                      .got = first->second + " and " + change.value});
    }
    sources.settings.push_back({std::move(change.key), std::move(change.value), "--set", where});
  }
  const auto add = [&sources](const char* key, const std::string& value, const char* option) {
    if (!value.empty()) sources.settings.push_back({key, value, option});
  };
  add("bits", options.bits, "--bits");
  add("effort", options.effort, "--effort");
  add("norm.clipping", options.clipping, "--clipping");
  add("calibration.samples", options.calib_samples, "--calib-samples");
  add("calibration.batch_size", options.batch_size, "--batch-size");
  add("calibration.hold_back", options.hold_back, "--hold-back");
  add("calibration.seed", options.seed, "--seed");
  sources.exclude = options.exclude;
  sources.exclude_option = "--exclude";
  sources.environment = repquant_environment();
  return resolve_recipe(sources);
}

std::vector<ResolvedSetting> option_settings(const CLI::App& app) {
  // Values from the environment are counted like typed ones, but are not in the parse order.
  const std::vector<CLI::Option*>& typed = app.parse_order();
  std::vector<ResolvedSetting> settings;
  for (const CLI::Option* option : app.get_options()) {
    const auto& long_names = option->get_lnames();
    const std::string name = long_names.empty() ? option->get_single_name() : long_names.front();
    if (kNotListed.count(name) > 0 || is_recipe_setting(*option)) continue;
    if (option->count() == 0) continue;
    const bool from_line = std::find(typed.begin(), typed.end(), option) != typed.end();
    settings.push_back(
        {name, list_text(option->results()), from_line ? "command line" : option->get_envname()});
  }
  return settings;
}

}  // namespace repquant::cli
