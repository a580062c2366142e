#include "nightly/plan.h"

#include <utility>

#include "recipe/json.h"
#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::TempDir;
using testing::write_text;

class PlanTest : public ::testing::Test {
 protected:
  NightlyPlan read(const std::string& json, const std::string& folder = "") const {
    write_text(folder_ / "plan.json", json);
    return read_plan(folder_ / "plan.json", folder, 1);
  }

  TempDir folder_;
};

double limit_of(const NightlyRow& row, std::string_view gate) {
  for (const Gate& entry : row.gates) {
    if (entry.rule->name == gate) return entry.limit;
  }
  ADD_FAILURE() << "no gate " << gate;
  return -1.0;
}

TEST_F(PlanTest, RowsAreModelsTimesBits) {
  const NightlyPlan plan = read(R"({"schema_version": 1, "bits": ["w8a8", "w4a4"], "models": [
      {"model": "a.pt", "calib": "a.npz"},
      {"model": "sub/b.pt", "name": "other", "calib": "b.npz", "bits": ["w4a16"]}]})");
  ASSERT_EQ(plan.rows.size(), 3U);
  EXPECT_EQ(plan.rows[0].model, "a");
  EXPECT_EQ(plan.rows[0].label, "w8a8");
  EXPECT_EQ(plan.rows[1].label, "w4a4");
  EXPECT_EQ(plan.rows[2].model, "other");
  EXPECT_EQ(plan.rows[0].quantize.recipe, recipe_for_bits({8, 8}));
  EXPECT_EQ(plan.rows[2].quantize.recipe, recipe_for_bits({4, 16}));
  const std::filesystem::path& here = folder_.path();
  EXPECT_EQ(plan.rows[2].quantize.model, (here / "sub/b.pt").string());
  EXPECT_EQ(plan.folder, (here / "repquant-out").string());
  EXPECT_EQ(plan.rows[2].quantize.output, (here / "repquant-out/other.w4a16.pt").string());
  EXPECT_EQ(plan.rows[2].result_file, (here / "repquant-out/other.w4a16.json").string());
}

TEST_F(PlanTest, TheFolderOfTheCallerCounts) {
  const NightlyPlan plan = read(
      R"({"schema_version": 1, "output": "x", "models": [
          {"model": "a.pt", "calib": "a.npz", "bits": ["w8a8"]}]})",
      "/elsewhere");
  EXPECT_EQ(plan.rows.at(0).quantize.output, "/elsewhere/a.w8a8.pt");
}

TEST_F(PlanTest, TheNarrowestSettingAndGateCount) {
  const NightlyPlan plan = read(R"({"schema_version": 1,
      "set": {"weights.damping": 0.1, "calibration.samples": 5},
      "gates": {"min_coverage": 0.5, "max_size_ratio": 0.9},
      "models": [{"model": "a.pt", "calib": {"data": "a.npz", "samples": 7},
                  "set": {"weights.damping": 0.2}, "gates": {"min_coverage": 0.6},
                  "bits": ["w4a4", {"bits": "w4a4", "label": "tight", "gates": {"min_coverage": 1},
                                    "set": {"weights.damping": 0.3}}]}]})");
  ASSERT_EQ(plan.rows.size(), 2U);
  EXPECT_EQ(plan.rows[0].quantize.recipe.weights.damping, 0.2);
  EXPECT_EQ(plan.rows[0].quantize.recipe.calibration.samples, 7);
  EXPECT_EQ(limit_of(plan.rows[0], "min-coverage"), 0.6);
  EXPECT_EQ(limit_of(plan.rows[0], "max-size-ratio"), 0.9);
  EXPECT_EQ(plan.rows[1].label, "tight");
  EXPECT_EQ(plan.rows[1].quantize.recipe.weights.damping, 0.3);
  EXPECT_EQ(limit_of(plan.rows[1], "min-coverage"), 1.0);
  EXPECT_EQ(plan.rows[1].gates.size(), 2U);
}

TEST_F(PlanTest, ARecipeIsAReadyOneOrAFile) {
  write_text(folder_ / "mine.json", R"({"norm": {"fold_exponent": 0.5}})");
  const NightlyPlan plan = read(R"({"schema_version": 1, "bits": ["w6a6"], "models": [
      {"model": "a.pt", "calib": "a.npz", "recipe": "paper"},
      {"model": "b.pt", "calib": "a.npz", "recipe": "mine.json"}]})");
  Recipe paper = find_ready_recipe("paper").value();
  paper.bits = {6, 6};
  EXPECT_EQ(plan.rows.at(0).quantize.recipe, paper);
  EXPECT_EQ(plan.rows.at(1).quantize.recipe.norm.fold_exponent, 0.5);
}

TEST_F(PlanTest, MistakesAreUsageErrorsWithPointers) {
  const auto model = [](const std::string& rest) {
    return R"({"schema_version": 1, "models": [{"model": "a.pt", "calib": "a.npz")" + rest + "}]}";
  };
  const std::pair<std::string, std::string> bad[] = {
      {R"({"schema_version": 2, "models": []})", "#/schema_version"},
      {R"({"schema_version": 1, "models": []})", "at least one model"},
      {R"({"schema_version": 1})", "models"},
      {model(""), "bits"},
      {model(R"(, "bits": [])"), "#/models/0/bits"},
      {model(R"(, "bits": ["w9a9"])"), "#/models/0/bits/0"},
      {model(R"(, "bits": ["w4a4", "w4a4"])"), "two rows have the same name"},
      {model(R"(, "bits": ["w4a4"], "name": "../up")"), "#/models/0/name"},
      {model(R"(, "bits": ["w4a4"], "name": ".hidden")"), "not a name"},
      {model(R"(, "bits": ["w4a4"], "gate": {})"), "did you mean gates"},
      {model(R"(, "bits": ["w4a4"], "gates": {"min_covrage": 1})"), "unknown gate"},
      {model(R"(, "bits": ["w4a4"], "gates": {"min-coverage": 1})"), "unknown gate"},
      {model(R"(, "bits": ["w4a4"], "gates": {"min_coverage": 95})"), "a share from 0 to 1"},
      {model(R"(, "bits": ["w4a4"], "gates": {"min_top1": 0.5})"), "will not have"},
      {model(R"(, "bits": ["w4a4"], "set": {"nom.clipping": "x"})"), "did you mean norm.clipping?"},
      {model(R"(, "bits": ["w4a4"], "evaluate": {"data": "x", "task": "sorting"})"), "task"},
      {model(R"(, "bits": ["w4a4"], "evaluate": {"data": "x", "compare": false},
                 "gates": {"max_kl": 1})"),
       "\"compare\": true"},
      {model(R"(, "bits": ["w4a4"], "evaluate": {"data": "x", "outputs": [0, 1, 2]})"),
       "one or two positions"},
  };
  for (const auto& [written, part] : bad) {
    const auto& json = written;
    SCOPED_TRACE(json);
    EXPECT_ERROR(read(json), ErrorKind::kUsage, part);
  }
  EXPECT_ERROR(read_plan(folder_ / "none.json", "", 1), ErrorKind::kFile, "none.json");
}

}  // namespace
}  // namespace repquant
