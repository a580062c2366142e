// The self-check finds what is wrong, says where, and accepts what is right.
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>

#include "artifact/lowered.h"
#include "graph/rewrite.h"
#include "recipe/json.h"
#include "support/errors.h"
#include "support/recipes.h"
#include "support/temp_dir.h"
#include "tensor/deviation.h"

namespace repquant {
namespace {

using testing::lowered;
using testing::plans_of;
using testing::Prepared;
using testing::read_text;
using testing::TempDir;
using testing::write_text;

const Prepared& planted() {
  static const Prepared prepared = testing::prepare_planted(1);
  return prepared;
}

const std::vector<SitePlan>& plans() {
  static const std::vector<SitePlan> result = plans_of(planted(), testing::static_recipe({4, 4}));
  return result;
}

/// A copy of the plans and one of them, to be changed. Tensors are replaced, never written into.
struct Changed {
  explicit Changed(const std::string& path) : all(plans()) {
    site = &*std::find_if(all.begin(), all.end(), [&](const auto& p) { return p.path == path; });
  }
  LinearPlan& linear() { return std::get<LinearPlan>(site->plan); }

  /// The error of the check of a module lowered from these against the true simulation.
  void expect_named() {
    const auto error =
        testing::error_of([&] { testing::check(planted(), lowered(planted(), all), plans()); });
    ASSERT_TRUE(error.has_value()) << "the change was not seen";
    EXPECT_EQ(error->kind(), ErrorKind::kNumerical);
    EXPECT_EQ(error->parts().where, site->path) << error->what();
  }

  std::vector<SitePlan> all;
  SitePlan* site = nullptr;
};

TEST(CheckLowered, AcceptsTheTruth) {
  const LoweringCheck result = testing::check(planted(), lowered(planted(), plans()), plans());
  EXPECT_GT(result.calls, plans().size());
  EXPECT_LE(result.codes.changed_share, kChangedCodesLimit);
  EXPECT_LE(result.floating.relative, kRelativeLimit);
  EXPECT_GT(result.lowered_db, result.simulated_db + kMarginDb);
}

TEST(CheckLowered, NeedsNoFloatWeights) {
  Prepared prepared = testing::prepare_planted(1);
  const auto weight_bytes = [&] {
    std::size_t bytes = 0;
    for (const Site& site : prepared.search.sites) {
      if (kind_of(site) == SiteKind::kLinear)
        bytes += constant_tensor(site.node->input(1)).nbytes();
    }
    return bytes;
  };
  const auto& batch = prepared.batches[0];
  const auto reference = run_model(prepared.model, batch);
  const auto outputs = run_module(lowered(prepared, plans()).module, batch);
  EXPECT_GT(weight_bytes(), 0U) << "the graph is shared";
  for (Site& site : prepared.search.sites) {
    if (auto* linear = std::get_if<LinearSite>(&site.kind)) linear->weight = at::Tensor();
  }
  const Lowered module =
      lower(std::move(prepared.model), prepared.search.sites, plans(),
            {.observed = observe(prepared.model, batch).observed, .defaults = {}});
  EXPECT_EQ(weight_bytes(), 0U);
  const PlanHook hook = plan_hook(prepared.search.sites, plans());
  const LoweringCheck result = check_lowered(module, hook, batch, reference);
  EXPECT_GT(result.lowered_db, result.simulated_db + kMarginDb);
  const auto got = run_module(module.module, batch);
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(at::equal(got[i], outputs[i]));
}

TEST(CheckLowered, OneWeightCode) {
  for (const char* path : {"patch_embed", "blocks.0.attn.query", "blocks.1.attn.qkv",
                           "blocks.0.attn.proj", "blocks.2.mlp.fc1", "blocks.1.mlp.fc2", "head"}) {
    SCOPED_TRACE(path);
    Changed changed(path);
    QuantizedWeight& weight = changed.linear().weight;
    weight.codes = weight.codes.clone();
    auto row = weight.codes[3];
    const auto largest = row.abs().argmax();
    const int code = row.index({largest}).item<int>();
    const at::Tensor& levels = weight.levels;
    row.index_fill_(0, largest,
                    !levels.defined() ? std::min(7, -code)
                    : code < 0        ? levels.max().item<int>()
                                      : levels.min().item<int>());
    changed.expect_named();
  }
}

TEST(CheckLowered, OneBias) {
  Changed changed("blocks.0.mlp.fc1");
  auto& bias = changed.linear().bias;
  bias = bias.index_add(0, at::tensor({5}, at::kLong), at::ones({1}) * 0.5);
  changed.expect_named();
}

TEST(CheckLowered, NamesAllSitesThatDiffer) {
  const std::vector<std::string> paths{"blocks.0.mlp.fc1", "blocks.1.attn.qkv", "head"};
  std::vector<SitePlan> changed = plans();
  for (SitePlan& site : changed) {
    if (std::count(paths.begin(), paths.end(), site.path) == 0) continue;
    auto& bias = std::get<LinearPlan>(site.plan).bias;
    bias = bias + bias.abs().max();
  }
  try {
    testing::check(planted(), lowered(planted(), changed), plans());
    FAIL() << "the changes were not seen";
  } catch (const SitesDiffer& error) {
    EXPECT_EQ(error.parts().where, paths.front());
    std::vector<std::string> found;
    for (const auto& site : error.sites()) found.push_back(site.path);
    EXPECT_EQ(found, paths);
  }
}

TEST(CheckLowered, OneSideColumn) {
  Changed changed("blocks.1.mlp.fc2");
  ASSERT_FALSE(changed.linear().side.channels.empty());
  changed.linear().side.scale = changed.linear().side.scale * 1.25;
  changed.expect_named();
}

TEST(CheckLowered, GridOfAnAttentionOperand) {
  Changed changed("blocks.2.attn.scores");
  auto& right = std::get<ScoresPlan>(changed.site->plan).right;
  right.zero_point = right.zero_point + 1.0;
  const auto error = testing::error_of(
      [&] { testing::check(planted(), lowered(planted(), changed.all), plans()); });
  ASSERT_TRUE(error.has_value());
  EXPECT_THAT(error->parts().where, ::testing::StartsWith("blocks.2.attn"));
}

TEST(CheckLowered, GridOfTheSoftmax) {
  Changed changed("blocks.0.attn.attend");
  std::get<AttendPlan>(changed.site->plan).grid.steps_per_octave = 1;
  const auto error = testing::error_of(
      [&] { testing::check(planted(), lowered(planted(), changed.all), plans()); });
  ASSERT_TRUE(error.has_value());
  EXPECT_THAT(error->parts().where, ::testing::StartsWith("blocks.0.attn"));
}

TEST(CheckLowered, CodesThatDoNotFitTheirBits) {
  // The nibble of 9 is that of -7: the packed weight differs from the one that was simulated.
  Changed changed("blocks.0.attn.proj");
  QuantizedWeight& weight = changed.linear().weight;
  const auto error_with = [&](std::int64_t code) {
    weight.codes = weight.codes.clone().fill_diagonal_(code);
    return testing::error_of(
        [&] { testing::check(planted(), lowered(planted(), changed.all), changed.all); });
  };
  if (weight.levels.defined()) {
    const auto no_level = error_with(weight.levels.max().item<std::int64_t>() + 1);
    ASSERT_TRUE(no_level.has_value());
    EXPECT_EQ(no_level->parts().where, "blocks.0.attn.proj");
    weight.levels = at::Tensor();
    weight.codes = at::clamp(weight.codes, -8, 7);
  }
  const auto error = error_with(9);
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->parts().where, "blocks.0.attn.proj");
}

TEST(CheckReloaded, EqualFileOnly) {
  TempDir folder;
  const auto path = folder / "model.pt";
  const Lowered module = lowered(planted(), plans());
  testing::save(module, path);
  const auto& batch = planted().batches[0];
  check_reloaded(path.string(), run_module(module.module, batch), batch);

  Changed other("head");
  other.linear().bias = other.linear().bias * 1.0001;
  testing::save(lowered(planted(), other.all), path);
  EXPECT_ERROR(check_reloaded(path.string(), run_module(module.module, batch), batch),
               ErrorKind::kNumerical, "bit-equal");

  const std::string whole = read_text(path);
  write_text(path, whole.substr(0, whole.size() / 2));
  EXPECT_ERROR(check_reloaded(path.string(), run_module(module.module, batch), batch),
               ErrorKind::kFile, "model.pt");
}

TEST(SaveArtifact, EqualModulesGiveEqualBytes) {
  TempDir folder;
  testing::save(lowered(planted(), plans()), folder / "one.pt");
  testing::save(lowered(planted(), plans()), folder / "two.pt");
  EXPECT_EQ(read_text(folder / "one.pt"), read_text(folder / "two.pt"));
}

}  // namespace
}  // namespace repquant
