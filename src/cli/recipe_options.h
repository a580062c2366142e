// Options that say something about the recipe, shared by quantize and inspect.
#pragma once

#include <CLI/App.hpp>
#include <memory>
#include <string>
#include <vector>

#include "recipe/resolve.h"

namespace repquant::cli {

struct RecipeOptions {
  std::string bits;
  std::string effort;
  std::string recipe;
  std::string clipping;
  std::string calib_samples;
  std::string batch_size;
  std::string hold_back;
  std::string seed;
  std::vector<std::string> settings;  // KEY=VALUE
  std::vector<std::string> exclude;
  const CLI::App* app = nullptr;
};

/// Adds --bits, --effort, --recipe, --set and --exclude; with `calibration` also --clipping,
/// --calib-samples, --batch-size, --hold-back and --seed.
std::shared_ptr<RecipeOptions> add_recipe_options(CLI::App& app, bool calibration);

/// Command line, environment, file and ready recipe in their order. Throws Error kUsage, kFile.
ResolvedRecipe resolve(const RecipeOptions& options);

/// The other options of a command as settings with their origins, for --print-config.
std::vector<ResolvedSetting> option_settings(const CLI::App& app);

}  // namespace repquant::cli
