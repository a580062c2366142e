#include "recipe/resolve.h"

#include <cstdlib>

#include "recipe/fields.h"
#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::TempDir;
using testing::write_text;

ResolvedSetting setting_of(const ResolvedRecipe& resolved, const std::string& key) {
  for (const ResolvedSetting& setting : resolved.settings) {
    if (setting.key == key) return setting;
  }
  ADD_FAILURE() << "no setting " << key;
  return {};
}

void expect_setting(const ResolvedRecipe& resolved, const std::string& key,
                    const std::string& value, const std::string& origin) {
  const ResolvedSetting setting = setting_of(resolved, key);
  EXPECT_EQ(setting.value, value) << key;
  EXPECT_EQ(setting.origin, origin) << key;
}

TEST(RecipeResolveTest, NothingSaidGivesTheDefaults) {
  const ResolvedRecipe resolved = resolve_recipe({});
  EXPECT_EQ(resolved.recipe, Recipe{});
  EXPECT_EQ(resolved.settings.size(), recipe_fields().size());
  for (const ResolvedSetting& setting : resolved.settings) EXPECT_EQ(setting.origin, "default");
}

TEST(RecipeResolveTest, BitsChooseTheReadyRecipe) {
  const ResolvedRecipe resolved = resolve_recipe({.settings = {{"bits", "w4a16", "--bits"}}});
  EXPECT_EQ(resolved.recipe, find_ready_recipe("w4a16").value());
  expect_setting(resolved, "bits", "w4a16", "--bits");
  expect_setting(resolved, "attention.quantize", "false", "recipe w4a16");
  expect_setting(resolved, "norm.clipping", "search", "default");
}

TEST(RecipeResolveTest, SettingsOfStaticGridsAreNamedWhereThereAreNone) {
  const std::vector<CommandLineSetting> given{{"norm.clipping", "learned", "--clipping"},
                                              {"input.massive_bits", "6", "--set"},
                                              {"attention.per_head", "false", "--set"}};
  const auto warnings = settings_without_effect(resolve_recipe({.settings = given}));
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_NE(warnings[0].find("norm.clipping=learned (--clipping)"), std::string::npos);
  EXPECT_NE(warnings[0].find("`recipe=static`"), std::string::npos);
  EXPECT_NE(warnings[1].find("input.massive_bits=6 (--set)"), std::string::npos);
  const RecipeSources fixed{.ready = "static", .settings = given};
  EXPECT_TRUE(settings_without_effect(resolve_recipe(fixed)).empty());
  // What a ready recipe says for its own reasons is no mistake of the user's.
  EXPECT_TRUE(settings_without_effect(resolve_recipe({.ready = "paper"})).empty());
  EXPECT_TRUE(settings_without_effect(resolve_recipe({})).empty());
}

TEST(RecipeResolveTest, EffortSetsOthersWhateverTheOrder) {
  const ResolvedRecipe fast = resolve_recipe(
      {.settings = {{"weights.sensitivity", "0.25", "--set"}, {"effort", "fast", "--effort"}}});
  expect_setting(fast, "effort", "fast", "--effort");
  expect_setting(fast, "weights.compensation", "none", "effort");
  expect_setting(fast, "weights.sensitivity", "0.25", "--set");
}

TEST(RecipeResolveTest, EffortOfAFileLeavesItsOtherKeys) {
  const TempDir dir;
  const auto file = dir / "my.json";
  write_text(file, R"({"weights": {"compensation": "input"}, "effort": "fast"})");
  const ResolvedRecipe resolved = resolve_recipe({.file = file});
  EXPECT_EQ(resolved.recipe.weights.compensation, Compensation::kInput);
  EXPECT_EQ(resolved.recipe.weights.sensitivity, 0);
  expect_setting(resolved, "weights.sensitivity", "0.0", "effort");
}

TEST(RecipeResolveTest, DefaultsAreTheStandardEffort) {
  const ResolvedRecipe standard =
      resolve_recipe({.settings = {{"effort", "standard", "--effort"}}});
  EXPECT_EQ(standard.recipe, Recipe{});
}

TEST(RecipeResolveTest, AnyBitsNameTheRecipe) {
  const ResolvedRecipe resolved = resolve_recipe({.settings = {{"bits", "w5a5", "--bits"}}});
  EXPECT_EQ(resolved.recipe, recipe_for_bits({5, 5}));
  expect_setting(resolved, "name", "w5a5", "recipe w5a5");
}

TEST(RecipeResolveTest, AReadyRecipeByName) {
  const ResolvedRecipe paper =
      resolve_recipe({.ready = "paper", .settings = {{"bits", "w8a8", "--bits"}}});
  EXPECT_EQ(paper.recipe.bits, (BitWidths{8, 8}));
  expect_setting(paper, "norm.clipping", "learned", "recipe paper");
  expect_setting(paper, "norm.fold_exponent", "1.0", "default");
  EXPECT_EQ(resolve_recipe({.ready = "w4a8"}).recipe, recipe_for_bits({4, 8}));
  EXPECT_ERROR(resolve_recipe({.ready = "papr"}), ErrorKind::kUsage, "did you mean paper?");
}

TEST(RecipeResolveTest, EachSourceBeatsTheOnesBelow) {
  const TempDir dir;
  const auto file = dir / "my.json";
  write_text(file, R"({"bits": "w4a16", "calibration": {"samples": 10, "batch_size": 2, "seed": 5},
                       "attention": {"quantize": true}})");
  RecipeSources sources{.file = file};
  sources.environment = {{"REPQUANT_CALIBRATION_SAMPLES", "20"},
                         {"REPQUANT_CALIBRATION_BATCH_SIZE", "4"},
                         {"REPQUANT_UNRELATED", "x"}};
  sources.settings = {{"calibration.samples", "30", "--calib-samples"},
                      {"calibration.samples", "40", "--set"}};
  const ResolvedRecipe resolved = resolve_recipe(sources);
  const std::string file_origin = "file " + file.string();
  expect_setting(resolved, "calibration.samples", "40", "--set");
  expect_setting(resolved, "calibration.batch_size", "4", "REPQUANT_CALIBRATION_BATCH_SIZE");
  expect_setting(resolved, "calibration.seed", "5", file_origin);
  expect_setting(resolved, "attention.quantize", "true", file_origin);
  expect_setting(resolved, "first_layer.activation_bits", "16", "recipe w4a16");
  expect_setting(resolved, "norm.clipping", "search", "default");
  expect_setting(resolved, "name", "my", file_origin);
  EXPECT_EQ(resolved.recipe.calibration.samples, 40);
  EXPECT_EQ(resolved.recipe.calibration.batch_size, 4);
  EXPECT_EQ(resolved.recipe.calibration.seed, 5U);
}

TEST(RecipeResolveTest, ExtendsBeatsTheRecipeOfTheBits) {
  const TempDir dir;
  write_text(dir / "my.json", R"({"extends": "w4a16", "name": "mine"})");
  const ResolvedRecipe resolved =
      resolve_recipe({.file = dir / "my.json", .settings = {{"bits", "w4a4", "--bits"}}});
  EXPECT_EQ(resolved.recipe.bits, (BitWidths{4, 4}));
  EXPECT_FALSE(resolved.recipe.attention.quantize);
  EXPECT_EQ(resolved.recipe.name, "mine");
}

TEST(RecipeResolveTest, EnvironmentBitsChooseTheReadyRecipe) {
  const ResolvedRecipe resolved = resolve_recipe({.environment = {{"REPQUANT_BITS", "w4a16"}}});
  expect_setting(resolved, "bits", "w4a16", "REPQUANT_BITS");
  expect_setting(resolved, "attention.quantize", "false", "recipe w4a16");
}

TEST(RecipeResolveTest, ExcludeOptionAddsToTheRecipe) {
  const TempDir dir;
  write_text(dir / "my.json", R"({"exclude": ["head"]})");
  const ResolvedRecipe resolved = resolve_recipe(
      {.file = dir / "my.json", .exclude = {"a.*", "b"}, .exclude_option = "--exclude"});
  EXPECT_THAT(resolved.recipe.exclude, ::testing::ElementsAre("head", "a.*", "b"));
  EXPECT_EQ(setting_of(resolved, "exclude").origin,
            "file " + (dir / "my.json").string() + " and --exclude");
  const ResolvedRecipe alone = resolve_recipe({.exclude = {"b"}, .exclude_option = "--exclude"});
  expect_setting(alone, "exclude", R"(["b"])", "--exclude");
}

TEST(RecipeResolveTest, ErrorsNameTheirSource) {
  const TempDir dir;
  write_text(dir / "my.json", R"({"norm": {"clipping": 3}})");
  EXPECT_ERROR(resolve_recipe({.file = dir / "my.json"}), ErrorKind::kUsage,
               "my.json#/norm/clipping");
  EXPECT_ERROR(resolve_recipe({.file = dir / "none.json"}), ErrorKind::kFile, "none.json");
  EXPECT_ERROR(resolve_recipe({.environment = {{"REPQUANT_BITS", "w1a1"}}}), ErrorKind::kUsage,
               "where: REPQUANT_BITS\n");
  EXPECT_ERROR(resolve_recipe({.settings = {{"bits", "w9a9", "--bits"}}}), ErrorKind::kUsage,
               "where: --bits\n");
  EXPECT_ERROR(resolve_recipe({.settings = {{"weights.damping", "7", "--set", "--set x"}}}),
               ErrorKind::kUsage, "where: --set x\n");
  EXPECT_ERROR(resolve_recipe({.settings = {{"nom.clipping", "x", "--set"}}}), ErrorKind::kUsage,
               "did you mean norm.clipping?");
  EXPECT_ERROR(resolve_recipe({.exclude = {"a["}}), ErrorKind::kUsage, "where: exclude\n");
}

TEST(RecipeResolveTest, PrintedConfigurationReadsBack) {
  const ResolvedRecipe resolved = resolve_recipe({.settings = {{"bits", "w4a4", "--bits"}}});
  const std::string text = resolved.to_string();
  EXPECT_THAT(text, ::testing::ContainsRegex("\nbits +  *= w4a4 +  *\\(--bits\\)\n"));
  EXPECT_THAT(text, ::testing::ContainsRegex("\nnorm.clipping +  *= search +  *\\(default\\)\n"));
  Recipe again;
  for (const ResolvedSetting& setting : resolved.settings) {
    apply_setting(again, setting.key, setting.value);
  }
  EXPECT_EQ(again, resolved.recipe);
}

TEST(RecipeResolveTest, EnvironmentNames) {
  EXPECT_EQ(environment_name("norm.clipping"), "REPQUANT_NORM_CLIPPING");
  EXPECT_EQ(environment_name("bits"), "REPQUANT_BITS");
  ASSERT_EQ(::setenv("REPQUANT_NORM_CLIPPING", "learned=x", 1), 0);
  EXPECT_EQ(repquant_environment().at("REPQUANT_NORM_CLIPPING"), "learned=x");
  ASSERT_EQ(::unsetenv("REPQUANT_NORM_CLIPPING"), 0);
  EXPECT_EQ(repquant_environment().count("REPQUANT_NORM_CLIPPING"), 0U);
}

TEST(RecipeResolveTest, UnusedVariablesAreFound) {
  EXPECT_THAT(unused_environment({{"REPQUANT_NORM_CLIPING", "x"},
                                  {"REPQUANT_NORM_CLIPPING", "x"},
                                  {"REPQUANT_SHARED", "x"}},
                                 {"REPQUANT_SHARED"}),
              ::testing::ElementsAre("REPQUANT_NORM_CLIPING"));
}

}  // namespace
}  // namespace repquant
