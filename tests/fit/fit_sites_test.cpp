// The sequential fit on whole fixture models: what it decides, and that nothing but model, data and
// recipe decides it.
#include "fit/fit_sites.h"

#include <torch/csrc/jit/serialization/pickle.h>

#include <limits>
#include <map>
#include <set>

#include "fit/checkpoint.h"
#include "plan/serialize.h"
#include "recipe/json.h"
#include "support/errors.h"
#include "support/prepared.h"
#include "support/recipes.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::prepare_fixture;
using testing::prepare_planted;
using testing::Prepared;
using testing::TempDir;

Recipe w4a4() { return recipe_for_bits({4, 4}); }

const Prepared& planted() {
  static const Prepared prepared = prepare_planted();
  return prepared;
}

FittedSites fit_all(const Prepared& prepared, const Recipe& recipe,
                    const FitSitesOptions& options = {}) {
  return fit_sites(prepared.model, prepared.search, prepared.batches, recipe, options);
}

FitSitesOptions threads_only(int threads) {
  FitSitesOptions options;
  options.threads = threads;
  return options;
}

FitSitesOptions with_workdir(const std::filesystem::path& workdir) {
  FitSitesOptions options;
  options.workdir = workdir.string();
  options.fingerprint = "run";
  return options;
}

std::vector<char> bytes_of(const SitePlan& plan) {
  return torch::jit::pickle_save(to_ivalue(plan));
}

/// Equal down to the last bit; names the first site that differs.
void expect_same(const std::vector<SitePlan>& got, const std::vector<SitePlan>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(bytes_of(got[i]), bytes_of(expected[i])) << expected[i].path;
  }
}

const LinearPlan& linear(const FittedSites& result, const std::string& path) {
  for (const auto& plan : result.plans) {
    if (plan.path == path) return std::get<LinearPlan>(plan.plan);
  }
  throw std::runtime_error("no plan for " + path);
}

/// The plans of a whole checkpoint.
std::vector<SitePlan> checkpointed(const std::string& workdir) {
  std::vector<SitePlan> plans;
  for (const auto& plan : read_checkpoint(workdir, "run").plans) plans.push_back(plan.value());
  return plans;
}

TEST(FitSites, ThreadsDoNotChangeABit) {
  const FittedSites one = fit_all(planted(), w4a4(), threads_only(1));
  for (const int threads : {1, 2, 3}) {
    const FittedSites other = fit_all(planted(), w4a4(), threads_only(threads));
    expect_same(other.plans, one.plans);
    EXPECT_EQ(other.output_sqnr_db, one.output_sqnr_db);
    EXPECT_EQ(other.fold_deviation, one.fold_deviation);
  }
}

TEST(FitSites, ResumesAfterAnySite) {
  TempDir folder;
  FitSitesOptions options = with_workdir(folder / "work");
  const FittedSites whole = fit_all(planted(), w4a4(), options);
  options.resume = true;
  for (const std::size_t kept : {whole.plans.size(), std::size_t{14}, std::size_t{3}}) {
    std::filesystem::remove_all(options.workdir);
    for (std::size_t i = 0; i < kept; ++i) {
      append_checkpoint(options.workdir, "run", i, whole.plans[i]);
    }
    const FittedSites resumed = fit_all(planted(), w4a4(), options);
    expect_same(resumed.plans, whole.plans);
    EXPECT_EQ(resumed.output_sqnr_db, whole.output_sqnr_db);
    expect_same(checkpointed(options.workdir), whole.plans);
  }
}

TEST(FitSites, ADamagedCheckpointCostsItsSiteAlone) {
  TempDir folder;
  FitSitesOptions options = with_workdir(folder / "work");
  const FittedSites whole = fit_all(planted(), w4a4(), options);
  const auto damaged = folder / "work/site_0003.pt";
  testing::write_text(damaged, "nothing");
  const auto last = std::filesystem::last_write_time(folder / "work/site_0004.pt");
  options.resume = true;
  std::vector<std::string> warnings;
  options.warn = [&](const std::string& text) { warnings.push_back(text); };
  expect_same(fit_all(planted(), w4a4(), options).plans, whole.plans);
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("site_0003.pt"), std::string::npos);
  EXPECT_EQ(std::filesystem::last_write_time(folder / "work/site_0004.pt"),
            last);  // taken as it is
  expect_same(checkpointed(options.workdir), whole.plans);
}

TEST(FitSites, SaysThatCheckpointsAreReplacedOrAreNotThere) {
  TempDir folder;
  FitSitesOptions options = with_workdir(folder / "work");
  std::vector<std::string> warnings;
  options.warn = [&](const std::string& text) { warnings.push_back(text); };
  fit_all(planted(), w4a4(), options);
  EXPECT_TRUE(warnings.empty());
  fit_all(planted(), w4a4(), options);
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("are replaced"), std::string::npos);
  options.resume = true;
  fit_all(planted(), w4a4(), options);
  EXPECT_EQ(warnings.size(), 1U);
  options.workdir = (folder / "wrok").string();
  fit_all(planted(), w4a4(), options);
  ASSERT_EQ(warnings.size(), 2U);
  EXPECT_NE(warnings[1].find("wrok"), std::string::npos);
}

TEST(FitSites, TakesWhatTheCheckpointSays) {
  TempDir folder;
  const FittedSites first = fit_all(planted(), w4a4());
  SitePlan marked = first.plans[0];
  marked.note = "from the checkpoint";
  append_checkpoint(folder.path().string(), "run", 0, marked);
  FitSitesOptions options = with_workdir(folder.path());
  options.resume = true;
  EXPECT_EQ(fit_all(planted(), w4a4(), options).plans[0].note, "from the checkpoint");
}

TEST(FitSites, StopsWhenAskedAndKeepsWhatIsDone) {
  TempDir folder;
  FitSitesOptions options = with_workdir(folder.path());
  std::size_t finished = 0;
  options.on_progress = [&](const FitProgress& progress) { finished = progress.site; };
  options.check_interrupt = [&] {
    if (finished >= 4) throw Error(ErrorKind::kInterrupted, {.what = "interrupted"});
  };
  EXPECT_ERROR(fit_all(planted(), w4a4(), options), ErrorKind::kInterrupted, "interrupted");
  EXPECT_EQ(read_checkpoint(folder.path().string(), "run").plans.size(), 4U);
}

TEST(FitSites, ReportsEverySiteInOrder) {
  std::vector<std::string> seen;
  FitSitesOptions options;
  options.on_progress = [&](const FitProgress& progress) {
    EXPECT_EQ(progress.sites, planted().search.sites.size());
    EXPECT_EQ(progress.site, seen.size());
    seen.push_back(progress.path);
  };
  const FittedSites result = fit_all(planted(), w4a4(), options);
  ASSERT_EQ(seen.size(), result.plans.size() + 1);
  for (std::size_t i = 0; i < result.plans.size(); ++i) EXPECT_EQ(seen[i], result.plans[i].path);
}

TEST(FitSites, ConsumersOfANormReadTheSameCodes) {
  const FittedSites result = fit_all(planted(), w4a4());
  const auto& query = linear(result, "blocks.0.attn.query");
  EXPECT_FALSE(query.norm.empty());
  for (const char* name : {"key", "value"}) {
    const auto& other = linear(result, std::string("blocks.0.attn.") + name);
    EXPECT_EQ(other.norm, query.norm);
    EXPECT_EQ(other.input.scale, query.input.scale);
    EXPECT_EQ(other.input.zero_point, query.input.zero_point);
    EXPECT_TRUE(at::equal(other.input.multiplier, query.input.multiplier));
    EXPECT_TRUE(at::equal(other.input.offset, query.input.offset));
  }
}

TEST(FitSites, PaddingAllowsNoShift) {
  // A zero that padding inserts must mean zero in every channel.
  const FittedSites result = fit_all(planted(), w4a4());
  const auto& qkv = linear(result, "blocks.1.attn.qkv");
  EXPECT_TRUE(qkv.input.per_channel());
  EXPECT_TRUE(at::allclose(qkv.input.offset,
                           at::full_like(qkv.input.offset, double(qkv.input.zero_point)), 0, 1e-4));
}

TEST(FitSites, ChannelsHaveIntegerZeroPoints) {
  const FittedSites result = fit_all(planted(), testing::static_recipe({4, 4}));
  for (const auto& plan : result.plans) {
    const auto* site = std::get_if<LinearPlan>(&plan.plan);
    if (site == nullptr) continue;
    const auto& offset = site->input.offset;
    EXPECT_TRUE(at::allclose(offset, offset.round(), 0, 1e-3)) << plan.path;
  }
}

TEST(FitSites, NoFoldIntoANormWithAReaderLeftInFloatingPoint) {
  Recipe recipe = w4a4();
  recipe.exclude = {"blocks.0.attn.key"};
  const FittedSites result = fit_all(planted(), recipe);
  EXPECT_EQ(result.plans.size(), planted().search.sites.size() - 1);
  EXPECT_TRUE(std::none_of(result.plans.begin(), result.plans.end(),
                           [](const SitePlan& plan) { return plan.path == "blocks.0.attn.key"; }));
  EXPECT_EQ(linear(result, "blocks.0.attn.query").norm, "");
  EXPECT_NE(linear(result, "blocks.2.attn.query").norm, "");
}

TEST(FitSites, NoFoldIntoANormWhoseReadersDisagreeOnBits) {
  Recipe recipe = w4a4();
  recipe.overrides = {{"blocks.0.attn.key", 0, 8}};
  const FittedSites result = fit_all(planted(), recipe);
  EXPECT_EQ(linear(result, "blocks.0.attn.key").input.bits, 8);
  EXPECT_EQ(linear(result, "blocks.0.attn.query").norm, "");
}

TEST(FitSites, RecordsHowWeightsWereRounded) {
  Recipe recipe = w4a4();
  const FittedSites gptq = fit_all(planted(), recipe);
  double better = 0, sites = 0;
  for (const auto& plan : gptq.plans) {
    const auto* site = std::get_if<LinearPlan>(&plan.plan);
    if (site == nullptr) continue;
    const std::string& outcome = site->weight.outcome;
    EXPECT_TRUE(outcome.starts_with("gptq") || outcome.starts_with("nearest: ")) << outcome;
    EXPECT_NE(plan.note.find(outcome), std::string::npos) << plan.note;
    EXPECT_LE(site->weight.error_gptq, site->weight.error_rtn) << plan.path;
    better += site->weight.error_gptq < 0.9 * site->weight.error_rtn ? 1 : 0;
    sites += 1;
  }
  EXPECT_GT(better, sites / 2);
  recipe.weights.rounding = WeightRounding::kNearest;
  const FittedSites nearest = fit_all(planted(), recipe);
  for (const auto& plan : nearest.plans) {
    const auto* site = std::get_if<LinearPlan>(&plan.plan);
    if (site == nullptr) continue;
    EXPECT_EQ(site->weight.outcome, "nearest") << plan.path;
  }
}

TEST(FitSites, LeavesOutRowsThatAreNotFinite) {
  Prepared partly = prepare_planted(2);
  partly.batches[1][0].index({3}).fill_(std::numeric_limits<float>::quiet_NaN());
  const Recipe recipe = recipe_for_bits({8, 8});  // with fewer single codes move the outputs by dB
  const FittedSites result = fit_all(partly, recipe);
  EXPECT_TRUE(result.failed.empty());
  EXPECT_EQ(result.plans.size(), partly.search.sites.size());
  EXPECT_NE(result.plans[0].note.find("not finite left out"), std::string::npos)
      << result.plans[0].note;
  Prepared without = prepare_planted(2);  // the sample
  for (at::Tensor& input : without.batches[1]) {
    input = at::cat({input.slice(0, 0, 3), input.slice(0, 4)});
  }
  EXPECT_GT(result.output_sqnr_db, fit_all(without, recipe).output_sqnr_db - 1.0);
}

TEST(FitSites, NamesTheSiteWhoseInputIsNotFinite) {
  Prepared broken = prepare_planted(2);
  for (auto& batch : broken.batches) batch[0].fill_(std::numeric_limits<float>::quiet_NaN());
  try {
    fit_all(broken, w4a4());
    FAIL() << "NaN was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNumerical);
    EXPECT_EQ(error.parts().where, "patch_embed");
  }
}

TEST(FitSites, NeedsData) {
  EXPECT_ERROR(fit_sites(planted().model, planted().search, {}, w4a4(), {}), ErrorKind::kUsage,
               "calibration");
}

/// Codes and grids as text; not the names of graph values, which exports choose differently.
std::string without_names(SitePlan plan) {
  if (auto* site = std::get_if<LinearPlan>(&plan.plan); site != nullptr && !site->norm.empty()) {
    site->norm = "norm";
  }
  const auto bytes = bytes_of(plan);
  return {bytes.begin(), bytes.end()};
}

TEST(FitSites, TraceAndScriptGiveTheSameCodes) {
  for (const char* name : {"vit_fused", "vit_separate", "swin_padded", "post_norm_bool_mask",
                           "decoder", "attention_grouped", "linear_spellings"}) {
    const FittedSites traced = fit_all(prepare_fixture(name, "trace"), w4a4());
    const FittedSites scripted = fit_all(prepare_fixture(name, "script"), w4a4());
    ASSERT_EQ(traced.plans.size(), scripted.plans.size()) << name;
    for (std::size_t i = 0; i < traced.plans.size(); ++i) {
      EXPECT_EQ(without_names(traced.plans[i]), without_names(scripted.plans[i]))
          << name << ": " << traced.plans[i].path;
    }
  }
}

}  // namespace
}  // namespace repquant
