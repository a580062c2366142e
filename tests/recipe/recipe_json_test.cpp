#include "recipe/json.h"

#include <random>
#include <set>

#include "recipe/bit_width.h"
#include "recipe/fields.h"
#include "recipe/names.h"
#include "support/errors.h"
#include "support/paths.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::read_text;
using testing::source_dir;

Recipe parse(std::string_view text) { return parse_recipe(text, "r.json").recipe; }

// A value of `field` that differs from the one in `recipe`.
Json other_value(const RecipeField& field, const Recipe& recipe) {
  const Json now = field.get(recipe);
  switch (field.kind) {
    case FieldKind::kBits:
      return now == "w3a5" ? "w5a3" : "w3a5";
    case FieldKind::kName:
      return now == field.names.front() ? field.names.back() : field.names.front();
    case FieldKind::kText:
      return now.get<std::string>() + "x";
    case FieldKind::kBool:
      return !now.get<bool>();
    case FieldKind::kInteger:
      if (!field.integers.empty()) {
        return now == field.integers.back() ? field.integers.front() : field.integers.back();
      }
      return now == field.maximum ? now.get<int>() - 1 : now.get<int>() + 1;
    case FieldKind::kNumber:
      return now == 0.25 ? 0.5 : 0.25;
    case FieldKind::kPatterns:
      return Json::array({"a.*", "b\"\\\xC3\xA9"});
    case FieldKind::kOverrides:
      return Json::parse(R"([{"pattern": "x.?", "weight_bits": 3, "activation_bits": 16}])");
  }
  return nullptr;
}

TEST(RecipeJsonTest, EveryFieldRoundTripsAndIsIndependent) {
  for (const RecipeField& field : recipe_fields()) {
    Recipe changed;
    set_field(changed, field, other_value(field, changed), {});
    EXPECT_NE(changed, Recipe{}) << field.path;
    EXPECT_EQ(parse(recipe_to_json(changed)), changed) << field.path;
    if (field.path == "effort") continue;  // stands for others
    for (const RecipeField& other : recipe_fields()) {
      EXPECT_EQ(other.get(changed) == other.get(Recipe{}), other.path != field.path)
          << field.path << " and " << other.path;
    }
  }
}

// Number of members of an aggregate, found by how many initializers it takes.
struct Anything {
  template <class T>
  operator T() const;  // never defined: only asked for in an unevaluated place
};

template <class Aggregate, class... Members>
consteval std::size_t member_count() {
  if constexpr (requires { Aggregate{Members{}..., Anything{}}; }) {
    return member_count<Aggregate, Members..., Anything>();
  } else {
    return sizeof...(Members);
  }
}

TEST(RecipeJsonTest, TableKnowsEveryMember) {
  const std::size_t in_sections = member_count<WeightRecipe>() + member_count<NormRecipe>() +
                                  member_count<AttentionRecipe>() + member_count<InputRecipe>() +
                                  2 * member_count<EdgeRecipe>() + member_count<EmbeddingRecipe>() +
                                  member_count<CalibrationRecipe>() +
                                  member_count<LearningRecipe>();
  EXPECT_EQ(in_sections, 47U);                         // guards the count itself
  EXPECT_EQ(recipe_fields().size(), in_sections + 5);  // name, effort, bits, overrides, exclude
}

TEST(RecipeJsonTest, PathsAndEnvironmentNamesAreUnique) {
  std::set<std::string> paths;
  for (const RecipeField& field : recipe_fields()) {
    EXPECT_TRUE(paths.insert(field.path).second) << field.path;
    EXPECT_FALSE(field.help.empty()) << field.path;
  }
}

TEST(RecipeJsonTest, AllOverridesKeepTheirOrder) {
  Recipe recipe;
  recipe.overrides = {{"a", 2, 0}, {"*", 0, 16}};
  recipe.exclude = {"z", "y"};
  EXPECT_EQ(parse(recipe_to_json(recipe)), recipe);
}

TEST(RecipeJsonTest, PartialRecipeKeepsTheBase) {
  EXPECT_EQ(parse("{}"), Recipe{});
  const Recipe recipe =
      parse(R"({"norm": {"clipping": "learned"}, "calibration": {"samples": 32}})");
  Recipe expected;
  expected.norm.clipping = Clipping::kLearned;
  expected.calibration.samples = 32;
  EXPECT_EQ(recipe, expected);
}

TEST(RecipeJsonTest, ExtendsLaysOverAReadyRecipe) {
  const RecipeDocument document =
      parse_recipe(R"({"extends": "w4a16", "weights": {"damping": 0.1}})");
  Recipe expected = find_ready_recipe("w4a16").value();
  expected.weights.damping = 0.1;
  expected.name = "custom";
  EXPECT_EQ(document.recipe, expected);
  EXPECT_EQ(document.extends, "w4a16");
  ASSERT_EQ(document.changes.size(), 1U);
  EXPECT_EQ(document.changes[0].key, "weights.damping");
  EXPECT_EQ(document.changes[0].value, "0.1");
}

TEST(RecipeJsonTest, HeadingKeysAreNoSettings) {
  EXPECT_EQ(parse(R"({"$schema": "x", "schema_version": 1, "description": "y"})"), Recipe{});
}

struct BadRecipe {
  const char* text;
  const char* part;
};

TEST(RecipeJsonTest, BadRecipesAreUsageErrorsWithPointers) {
  const BadRecipe bad[] = {
      {"[]", "recipe is not a JSON object"},
      {"null", "recipe is not a JSON object"},
      {R"({"schema_version": 2})", "r.json#/schema_version"},
      {R"({"schema_version": "1"})", "r.json#/schema_version"},
      {R"({"extends": "w4a9"})", "try: did you mean w4a16?"},
      {R"({"extends": "papers"})", "try: did you mean paper?"},
      {R"({"extends": "papers"})", "r.json#/extends"},
      {R"({"effort": "higher"})", "one of fast, standard, high"},
      {R"({"effort": ""})", "one of fast, standard, high"},
      {R"({"extends": 4})", "r.json#/extends"},
      {R"({"description": 4})", "r.json#/description"},
      {R"({"bits": "w9a9"})", "r.json#/bits"},
      {R"({"bits": 4})", "r.json#/bits"},
      {R"({"norms": {}})", "try: did you mean norm?"},
      {R"({"norm": {"cliping": "search"}})", "try: did you mean clipping?"},
      {R"({"norm": {"cliping": "search"}})", "r.json#/norm/cliping"},
      {R"({"norm": {"clipping": "lerned"}})", "try: did you mean learned?"},
      {R"({"norm": {"clipping": "lerned"}})", "one of minmax, percentile, search, learned"},
      {R"({"norm": {"clipping": 1}})", "wrong type"},
      {R"({"norm": {"clipping": "search", "clipping": "learned"}})", "duplicate key"},
      {R"({"input": {"granularity": "per_tokens"}})", "try: did you mean per_token?"},
      {R"({"input": {"granularity": "row"}})", "one of per_tensor, per_channel, auto, per_token"},
      {R"({"norm": []})", "expected: an object"},
      {R"({"norm.clipping": "search"})", "unknown key of a recipe"},
      {R"({"norm": {"integer_offsets": 1}})", "expected: true or false"},
      {R"({"norm": {"integer_offsets": null}})", "got: null"},
      {R"({"weights": {"damping": -0.1}})", "a number from 0 to 1"},
      {R"({"weights": {"damping": 1.5}})", "r.json#/weights/damping"},
      {R"({"weights": {"damping": "0.1"}})", "wrong type"},
      {R"({"weights": {"block_size": 0}})", "an integer from 1 to 65536"},
      {R"({"weights": {"block_size": 12.0}})", "wrong type"},
      {R"({"weights": {"block_size": 1e30}})", "wrong type"},
      {R"({"calibration": {"samples": 99999999999999999999}})", "r.json#/calibration/samples"},
      {R"({"calibration": {"seed": -1}})", "r.json#/calibration/seed"},
      {R"({"embedding": {"bits": 1}})", "one of 0, 2, 3, 4, 5, 6, 7, 8"},
      {R"({"embedding": {"bits": "none"}})", "r.json#/embedding/bits"},
      {R"({"embedding": {"rows": 4}})", "r.json#/embedding"},
      {R"({"first_layer": {"activation_bits": 9}})", "one of 0, 2, 3, 4, 5, 6, 7, 8, 16"},
      {R"({"first_layer": {"weight_bits": 1}})", "out of range"},
      {R"({"overrides": {}})", "r.json#/overrides"},
      {R"({"overrides": [1]})", "r.json#/overrides/0"},
      {R"({"overrides": [{"pattern": "a"}, {"weight_bits": 4}]})", "r.json#/overrides/1"},
      {R"({"overrides": [{"patern": "a"}]})", "try: did you mean pattern?"},
      {R"({"overrides": [{"pattern": ""}]})", "r.json#/overrides/0/pattern"},
      {R"({"overrides": [{"pattern": "a", "weight_bits": 9}]})", "r.json#/overrides/0/weight_bits"},
      {R"({"overrides": [{"pattern": "a", "activation_bits": "4"}]})", "wrong type"},
      {R"({"exclude": "head"})", "r.json#/exclude"},
      {R"({"exclude": ["head", "b[0"]})", "r.json#/exclude/1"},
      {R"({"exclude": [3]})", "r.json#/exclude/0"},
      {R"({"name": ""})", "r.json#/name"},
      {R"({"name": "a\nb"})", "control character"},
  };
  for (const auto& [written, part] : bad) {
    const auto& text = written;
    SCOPED_TRACE(text);
    EXPECT_ERROR(parse(text), ErrorKind::kUsage, part);
  }
}

TEST(RecipeJsonTest, SettingsByDottedPath) {
  Recipe recipe;
  apply_setting(recipe, "bits", "w4a4");
  apply_setting(recipe, "norm.clipping", "learned");
  apply_setting(recipe, "input.granularity", "per_token");
  apply_setting(recipe, "weights.act_order", "false");
  apply_setting(recipe, "weights.damping", "0.05");
  apply_setting(recipe, "calibration.seed", "9007199254740992");
  apply_setting(recipe, "exclude", "head,blocks.0.*");
  apply_setting(recipe, "overrides", R"([{"pattern": "x", "weight_bits": 8}])");
  EXPECT_EQ(recipe.bits, (BitWidths{4, 4}));
  EXPECT_EQ(recipe.norm.clipping, Clipping::kLearned);
  EXPECT_EQ(recipe.input.granularity, InputGranularity::kPerToken);
  EXPECT_FALSE(recipe.weights.act_order);
  EXPECT_EQ(recipe.weights.damping, 0.05);
  EXPECT_EQ(recipe.calibration.seed, 9007199254740992U);
  EXPECT_THAT(recipe.exclude, ::testing::ElementsAre("head", "blocks.0.*"));
  EXPECT_THAT(recipe.overrides, ::testing::ElementsAre(SiteOverride{"x", 8, 0}));
  apply_setting(recipe, "exclude", R"(["a,b"])");
  EXPECT_THAT(recipe.exclude, ::testing::ElementsAre("a,b"));
  apply_setting(recipe, "exclude", "[ab]c");
  EXPECT_THAT(recipe.exclude, ::testing::ElementsAre("[ab]c"));
  apply_setting(recipe, "exclude", "[]");
  EXPECT_TRUE(recipe.exclude.empty());
}

TEST(RecipeJsonTest, BadSettings) {
  Recipe recipe;
  const auto apply = [&recipe](const char* key, const char* value) {
    apply_setting(recipe, key, value);
  };
  EXPECT_ERROR(apply("norm.cliping", "x"), ErrorKind::kUsage, "did you mean norm.clipping?");
  EXPECT_ERROR(apply("norm", "x"), ErrorKind::kUsage, "unknown recipe key");
  EXPECT_ERROR(apply("norm.clipping", "x"), ErrorKind::kUsage, "where: setting\n");
  EXPECT_ERROR(apply("weights.act_order", "yes"), ErrorKind::kUsage, "true or false");
  EXPECT_ERROR(apply("weights.damping", "0,1"), ErrorKind::kUsage, "a number from 0 to 1");
  EXPECT_ERROR(apply("weights.damping", "nan"), ErrorKind::kUsage, "out of range");
  EXPECT_ERROR(apply("weights.damping", "inf"), ErrorKind::kUsage, "out of range");
  EXPECT_ERROR(apply("weights.damping", ""), ErrorKind::kUsage, "a number from 0 to 1");
  EXPECT_ERROR(apply("calibration.samples", "12x"), ErrorKind::kUsage, "an integer from 1");
  EXPECT_ERROR(apply("calibration.samples", " 12"), ErrorKind::kUsage, "an integer from 1");
  EXPECT_ERROR(apply("calibration.samples", "0"), ErrorKind::kUsage, "out of range");
  EXPECT_ERROR(apply("name", "\xff"), ErrorKind::kUsage, "not UTF-8");
  EXPECT_ERROR(apply("exclude", "a,,b"), ErrorKind::kUsage, "where: setting\n");
  EXPECT_ERROR(apply("overrides", "[{"), ErrorKind::kUsage, "malformed JSON");
  EXPECT_EQ(recipe, Recipe{});
}

TEST(RecipeJsonTest, SettingTextIsSplitAtTheFirstEquals) {
  EXPECT_EQ(parse_setting("name=a=b").key, "name");
  EXPECT_EQ(parse_setting("name=a=b").value, "a=b");
  EXPECT_ERROR(parse_setting("name"), ErrorKind::kUsage, "KEY=VALUE");
  EXPECT_ERROR(parse_setting("=x"), ErrorKind::kUsage, "KEY=VALUE");
}

TEST(ReadyRecipeTest, EachSaysSomething) {
  std::vector<Recipe> seen{Recipe{}};
  for (const std::string& name : ready_recipe_names()) {
    Recipe recipe = find_ready_recipe(name).value();
    EXPECT_EQ(recipe.name, name);
    EXPECT_FALSE(ready_recipe_description(name).empty());
    recipe.name = Recipe{}.name;
    recipe.bits = Recipe{}.bits;  // not bits alone
    EXPECT_THAT(seen, ::testing::Not(::testing::Contains(recipe))) << name;
    seen.push_back(recipe);
  }
  EXPECT_EQ(ready_recipe_description("w5a5"), "");
}

TEST(ReadyRecipeTest, PaperHasNothingOfOurs) {
  const Recipe recipe = find_ready_recipe("paper").value();
  EXPECT_EQ(recipe.weights.compensation, Compensation::kNone);
  EXPECT_EQ(recipe.weights.sensitivity, 0);
  EXPECT_EQ(recipe.attention.softmax_scaling, SoftmaxScaling::kPerTensor);
  EXPECT_EQ(recipe.attention.log_steps_per_octave, 2);  // log-sqrt2
  EXPECT_EQ(recipe.norm.clipping, Clipping::kLearned);
  EXPECT_EQ(recipe.norm.fold_exponent, 1);
  EXPECT_EQ(recipe.input.gelu_grid, GeluGrid::kUniform);
  EXPECT_EQ(recipe.input.massive_threshold, 0);
  EXPECT_EQ(recipe.calibration.hold_back, 0);
}

TEST(ReadyRecipeTest, AreTheFilesInConfigs) {
  for (const EmbeddedFile& ready : ready_recipes()) {
    EXPECT_EQ(ready.text,
              read_text(source_dir() / "configs" / (std::string(ready.name) + ".json")));
  }
}

TEST(ReadyRecipeTest, WeightOnlyLeavesActivationsAlone) {
  const Recipe recipe = find_ready_recipe("w4a16").value();
  EXPECT_TRUE(recipe.bits.weight_only());
  EXPECT_FALSE(recipe.attention.quantize);
  EXPECT_EQ(recipe.first_layer.activation_bits, 16);
  EXPECT_EQ(recipe.weights.group_size, 32);
  EXPECT_EQ(recipe_for_bits({3, kWeightOnlyBits}).weights.group_size, 32);
  EXPECT_EQ(recipe_for_bits({5, kWeightOnlyBits}).weights.group_size, 128);
}

TEST(ReadyRecipeTest, EveryWidthIsTheDefaultsAtItsBits) {
  for (int weight = 2; weight <= 8; ++weight) {
    for (int activation = 2; activation <= 8; ++activation) {
      Recipe expected;
      expected.bits = {weight, activation};
      expected.name = to_string(expected.bits);
      if (activation <= 3) {
        expected.input.group_size = 32;
        expected.weights.group_size = 32;
      }
      EXPECT_EQ(recipe_for_bits(expected.bits), expected);
      EXPECT_EQ(find_ready_recipe(expected.name), expected);
    }
  }
  EXPECT_FALSE(find_ready_recipe("w4").has_value());
  EXPECT_FALSE(find_ready_recipe("w9a4").has_value());
  EXPECT_FALSE(find_ready_recipe("").has_value());
}

TEST(ReadyRecipeTest, EveryWeightOnlyWidthIsLikeW4a16) {
  EXPECT_EQ(recipe_for_bits({4, 16}), find_ready_recipe("w4a16").value());
  Recipe expected = find_ready_recipe("w4a16").value();
  expected.bits = {3, 16};
  expected.name = "w3a16";
  EXPECT_EQ(recipe_for_bits({3, 16}), expected);
}

TEST(RecipeNamesTest, TablesAreOneToOne) {
  EXPECT_EQ(name_of(Clipping::kLearned), "learned");
  EXPECT_EQ(name_of(SoftmaxScaling::kRowMaximum), "row_maximum");
  EXPECT_EQ(name_of(static_cast<Clipping>(99)), "");
}

// Whatever the bytes: a recipe that can be written and read again, or a typed usage error.
TEST(RecipeFuzzTest, MutatedRecipesGiveARecipeOrAUsageError) {
  Recipe full = find_ready_recipe("w4a16").value();
  full.overrides = {{"blocks.*.fc2", 8, 4}, {"head", 0, 8}};
  full.exclude = {"patch_embed", "b.[0-3]"};
  const std::string seed_text = recipe_to_json(full);
  const std::string alphabet = "{}[]\",:0123456789.-+eEtrufalsn\\/ w a\n\xff\x01";
  const std::vector<std::string> words = {"null",  "true", "-1",   "1e999", "\"\"",    "[[[[",
                                          "{}",    "9e18", "0.5",  "\"x\"", "\\ud800", "\"bits\"",
                                          "99999", "16",   "\"w4", "\"a\":"};
  std::mt19937_64 random(20231);
  int accepted = 0;
  int refused = 0;
  for (int round = 0; round < 6000; ++round) {
    std::string text = seed_text;
    for (std::uint64_t edits = 1 + random() % 4; edits > 0 && !text.empty(); --edits) {
      const std::size_t at = random() % text.size();
      switch (random() % 5) {
        case 0:
          text[at] = alphabet[random() % alphabet.size()];
          break;
        case 1:
          text.erase(at, 1 + random() % 8);
          break;
        case 2:
          text.insert(at, words[random() % words.size()]);
          break;
        case 3:
          text.insert(at, text.substr(random() % text.size(), random() % 40));
          break;
        default:
          text.resize(random() % 8 == 0 ? at : text.size());
          break;
      }
    }
    try {
      const Recipe recipe = parse(text);
      ++accepted;
      EXPECT_EQ(parse(recipe_to_json(recipe)), recipe) << text;
    } catch (const Error& error) {
      ++refused;
      EXPECT_EQ(error.kind(), ErrorKind::kUsage) << text;
      EXPECT_FALSE(error.parts().where.empty()) << text;
    }
  }
  EXPECT_GT(accepted, 100);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace repquant
