// What load() reports, refuses and leaves portable.
#include "repquant/load.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "ops/operators.h"
#include "repquant/error.h"
#include "runtime/both_forms.h"
#include "runtime/saved_model.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using namespace testing;

TEST(LoadTest, ReportsWhatWasFusedIntoWhat) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  MinMaxOptions options = bits(4, 8);
  options.per_channel_inputs = true;
  options.side_columns_at = "blocks.0.mlp.fc2";
  save(lowered("vit_fused", "trace", options).module, path);
  LoadReport report;
  load(path, {}, &report);
  EXPECT_EQ(report.cpu_level, ops::cpu_level());
  for (const auto& site : report.sites) EXPECT_TRUE(site.fused) << site.module << site.reason;
  ASSERT_NE(find(report, "blocks_1_mlp_fc1"), nullptr);
  EXPECT_EQ(find(report, "blocks_1_mlp_fc1")->op, "repquant::linear u8 x s4");
  EXPECT_EQ(find(report, "blocks_1_mlp_fc1")->reason, "with requantization");
  EXPECT_EQ(find(report, "blocks_1_mlp_fc2")->reason, "with residual");
  EXPECT_EQ(find(report, "blocks_0_mlp_fc2")->reason, "with side columns, residual");
  EXPECT_EQ(find(report, "blocks_0_attn_scores")->reason, "fused into blocks_0_attn_attend");
}

TEST(LoadTest, GridsOfRowsAreTakenIn) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  MinMaxOptions options = bits(4, 8);
  options.per_token_inputs = true;
  save(lowered("vit_fused", "trace", options).module, path);
  LoadReport report;
  load(path, {}, &report);
  struct Expected {
    const char *module, *op, *reason;
  };
  for (const Expected& expected :
       {Expected{"blocks_1_mlp_fc1", "repquant::linear u8 x s4",
                 "with scales of rows, activation, grids of rows"},
        Expected{"blocks_1_mlp_fc2", "repquant::linear u8 x s4", "with scales of rows, residual"},
        Expected{"blocks_1_mlp_fc1_input", "repquant::norm_tokens", "with the norm"},
        Expected{"blocks_1_mlp_fc2_input", "repquant::linear_tokens",
                 "fused into blocks_1_mlp_fc1"},
        Expected{"blocks_1_mlp_fc1_scale", "repquant::linear", "fused into blocks_1_mlp_fc1"}}) {
    const LoadedSite* site = find(report, expected.module);
    ASSERT_NE(site, nullptr) << expected.module;
    EXPECT_EQ(site->op, expected.op) << expected.module;
    EXPECT_EQ(site->reason, expected.reason) << expected.module;
    EXPECT_TRUE(site->fused) << expected.module;
  }
}

TEST(LoadTest, ChannelsAreScaledWhereTheirGridIsMade) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  MinMaxOptions options = bits(8, 8);
  options.per_token_inputs = options.per_token_scale = true;
  save(lowered("vit_fused", "trace", options).module, path);
  LoadReport report;
  const torch::jit::Module fused = load(path, {}, &report);
  const LoadedSite* site = find(report, "blocks_1_mlp_fc2_input");
  ASSERT_NE(site, nullptr);
  EXPECT_EQ(site->op, "repquant::linear_tokens");
  EXPECT_EQ(find(report, "blocks_1_mlp_fc1")->reason,
            "with scales of rows, activation, scales of channels, grids of rows");
  EXPECT_EQ(find(report, "blocks_1_attn_proj_input")->reason, "with the scales of channels");
  const auto inputs = fixture_data("vit_fused").inputs;
  const auto expected = outputs(torch::jit::load(path), inputs), got = outputs(fused, inputs);
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_GT(sqnr_db(expected[i], got[i]), 60);
}

TEST(LoadTest, NormsThatResidualsReadGiveCodesToo) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  const auto data = fixture_data("post_norm_float_mask");
  for (const bool scaled : {false, true}) {
    MinMaxOptions options = bits(8, 8);
    options.per_token_inputs = true;
    options.per_token_scale = scaled;
    save(lowered("post_norm_float_mask", "trace", options).module, path);
    LoadReport report;
    const torch::jit::Module fused = load(path, {}, &report);
    const auto with_norm =
        std::count_if(report.sites.begin(), report.sites.end(), [&](const LoadedSite& site) {
          return site.op == "repquant::norm_and_tokens" &&
                 site.reason ==
                     (scaled ? "with the norm and the scales of channels" : "with the norm");
        });
    EXPECT_GT(with_norm, 0) << scaled;
    const auto expected = outputs(torch::jit::load(path), data.inputs);
    const auto got = outputs(fused, data.inputs);
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_GT(sqnr_db(expected[i], got[i]), 60);
  }
}

TEST(LoadTest, GroupsOfColumnsMultiplyTheirCodes) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  const auto data = fixture_data("vit_fused");
  struct Case {
    int weight_bits, group_size;
    std::string quantize, norm, linear;
  };
  // Weights in nibbles are packed in steps of eight columns.
  for (const Case& c : {Case{4, 8, "repquant::group_codes", "repquant::norm_group_codes",
                             "repquant::group_linear u8 x s4"},
                        Case{8, 12, "repquant::group_codes", "repquant::norm_group_codes",
                             "repquant::group_linear u8 x s8"},
                        Case{4, 12, "repquant::group_quantize", "repquant::group_quantize",
                             "repquant::weight_only_linear s16 x s4"}}) {
    SCOPED_TRACE(c.linear);
    MinMaxOptions options = bits(c.weight_bits, 4);
    options.per_token_inputs = true;
    options.group_size = c.group_size;
    save(lowered("vit_fused", "trace", options).module, path);
    LoadReport report;
    const auto fused = load(path, {}, &report);
    const bool taken_in = c.norm != c.quantize;
    for (const auto& [module, op, reason] :
         {std::tuple("blocks_1_mlp_fc1", c.linear, "with activation"),
          std::tuple("blocks_1_mlp_fc2", c.linear, taken_in ? "with residual" : ""),
          std::tuple("blocks_1_mlp_fc2_input", c.quantize, ""),
          std::tuple("blocks_1_mlp_fc1_input", c.norm, taken_in ? "with the norm" : "")}) {
      const LoadedSite* site = find(report, module);
      ASSERT_NE(site, nullptr) << module;
      EXPECT_EQ(site->op, op) << module;
      EXPECT_EQ(site->reason, reason) << module;
      EXPECT_TRUE(site->fused) << module;
      EXPECT_FALSE(fused.hasattr(module)) << module;
    }
    EXPECT_TRUE(differences(load_both(path, {}), data.inputs).empty());
  }
}

TEST(LoadTest, WeightOnlySitesComputeOnPackedWeights) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  const auto data = fixture_data("vit_fused");
  for (const auto& [weight_bits, op] :
       std::vector<std::pair<int, std::string>>{{3, "repquant::weight_only_linear s16 x s4"},
                                                {8, "repquant::weight_only_linear s16 x s8"}}) {
    MinMaxOptions options = bits(weight_bits, 8);
    options.weight_only = true;
    save(lowered("vit_fused", "trace", options).module, path);
    LoadReport report;
    const auto fused = load(path, {}, &report);
    ASSERT_NE(find(report, "blocks_1_mlp_fc1"), nullptr);
    EXPECT_EQ(find(report, "blocks_1_mlp_fc1")->op, op);
    EXPECT_EQ(find(report, "blocks_1_mlp_fc1")->reason, "with activation");
    EXPECT_EQ(find(report, "blocks_1_mlp_fc2")->op, op);
    EXPECT_EQ(find(report, "blocks_1_mlp_fc2")->reason, "");
    for (const auto& site : report.sites) {
      EXPECT_TRUE(site.fused) << site.module;
      // The float weight is not made: nothing of the portable submodule is left in the module.
      EXPECT_FALSE(fused.hasattr(site.module)) << site.module;
    }
    EXPECT_TRUE(differences(load_both(path, {}), data.inputs).empty());
    std::vector<at::Tensor> spiked{data.inputs[0].clone()};
    spiked[0].flatten()[100] = 1e4;
    EXPECT_TRUE(differences(load_both(path, {}), spiked).empty());
    const auto expected = outputs(torch::jit::load(path), data.inputs);
    // Inputs of 16 bits; codes of other widths would leave 30 dB and less.
    EXPECT_GE(sqnr_db(expected[0], outputs(fused, data.inputs)[0]), 70);
  }
}

TEST(LoadTest, SaysWhyASiteStaysPortable) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  const auto data = fixture_data("vit_fused");
  MinMaxOptions options = bits(4, 4);
  options.row_maximum = false;
  save(lowered("vit_fused", "trace", options).module, path);
  LoadReport report;
  load(path, {}, &report);
  const LoadedSite* attend = find(report, "blocks_0_attn_attend");
  ASSERT_NE(attend, nullptr);
  EXPECT_FALSE(attend->fused);
  EXPECT_EQ(attend->op, "Attend");
  EXPECT_EQ(attend->reason, "probabilities with one scale per tensor");

  const auto portable = load(path, {.fused = false}, &report);
  for (const auto& site : report.sites) EXPECT_FALSE(site.fused);
  EXPECT_TRUE(at::equal(outputs(portable, data.inputs)[0],
                        outputs(torch::jit::load(path), data.inputs)[0]));
}

TEST(LoadTest, LeavesPortableWhatTheDescriptionSays) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  const auto data = fixture_data("vit_fused");
  save(lowered("vit_fused", "trace", bits(8, 8)).module, path,
       description({{"blocks_0_attn_attend", "it differs"}}));
  LoadReport report;
  const auto fused = load(path, {}, &report);
  const LoadedSite* attend = find(report, "blocks_0_attn_attend");
  ASSERT_NE(attend, nullptr);
  EXPECT_FALSE(attend->fused);
  EXPECT_EQ(attend->reason, "it differs");
  ASSERT_NE(find(report, "blocks_0_attn_scores"), nullptr);
  EXPECT_FALSE(find(report, "blocks_0_attn_scores")->fused);
  EXPECT_TRUE(find(report, "blocks_1_attn_attend")->fused);
  EXPECT_GT(
      sqnr_db(outputs(torch::jit::load(path), data.inputs)[0], outputs(fused, data.inputs)[0]), 30);
}

TEST(LoadTest, RefusesWhatIsNoArtifact) {
  const TempDir dir;
  const auto expect_kind = [](const std::string& path, ErrorKind kind) {
    try {
      load(path);
      ADD_FAILURE() << "loaded " << path;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), kind) << e.what();
    }
  };
  expect_kind((dir / "missing.pt").string(), ErrorKind::kFile);
  write_text(dir / "text.pt", "no archive");
  expect_kind((dir / "text.pt").string(), ErrorKind::kFile);
  expect_kind(fixture_path("vit_fused", "trace"), ErrorKind::kUnsupported);

  const auto path = dir / "a.pt";
  const Lowered result = lowered("norm_relu", "trace", {});
  save(result.module, path, R"({"format": {"major": 2, "minor": 0}})");
  expect_kind(path.string(), ErrorKind::kUnsupported);
  save(result.module, path, "not json");
  expect_kind(path.string(), ErrorKind::kFile);
  save(result.module, path, R"({"format": {"major": 1, "minor": 3}})");
  expect_kind(path.string(), ErrorKind::kFile);
  save(result.module, path);
  const std::string bytes = read_text(path);
  write_text(path, bytes.substr(0, bytes.size() / 2));
  expect_kind(path.string(), ErrorKind::kFile);
}

}  // namespace
}  // namespace repquant
