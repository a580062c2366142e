// Embedding tables: a scale for each row, codes in the artifact, no floating-point copy beside
// them.
#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>

#include "artifact/lowered.h"
#include "graph/rewrite.h"
#include "recipe/json.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::lowered;
using testing::plans_of;
using testing::Prepared;

constexpr const char* kTable = "token_embed";

Recipe recipe_of(BitWidths bits, int embedding_bits) {
  Recipe recipe = recipe_for_bits(bits);
  recipe.embedding.bits = embedding_bits;
  return recipe;
}

const QuantizedWeight& table_of(const std::vector<SitePlan>& plans) {
  const auto found = std::find_if(plans.begin(), plans.end(),
                                  [](const SitePlan& plan) { return plan.path == kTable; });
  return std::get<EmbeddingPlan>(found->plan).table;
}

bool has_table(const std::vector<SitePlan>& plans) {
  return std::any_of(plans.begin(), plans.end(),
                     [](const SitePlan& plan) { return plan.kind == SiteKind::kEmbedding; });
}

/// Floating-point constants of the lowered graph that are as large as the table.
int float_copies(const Lowered& module, const at::Tensor& table) {
  int copies = 0;
  for (const auto* node : all_nodes(*module.graph)) {
    if (node->kind() != c10::prim::Constant) continue;
    const at::Tensor tensor = constant_tensor(node->output());
    if (tensor.defined() && tensor.is_floating_point() && tensor.numel() >= table.numel()) ++copies;
  }
  return copies;
}

/// The decoder's head is tied to its embedding.
class Embedding : public ::testing::TestWithParam<int> {
 protected:
  const Prepared prepared = testing::prepare_fixture("decoder", "trace");
  const at::Tensor table = constant_of(prepared.site(kTable));
};

TEST_P(Embedding, RowsHaveAtMostTwoToTheBitsCodesAndSmallErrors) {
  const int bits = GetParam();
  const QuantizedWeight found = table_of(plans_of(prepared, recipe_of({8, 8}, bits)));
  const std::int64_t limit = (std::int64_t{1} << (bits - 1)) - 1;
  EXPECT_LE(found.codes.max().item<std::int64_t>(), limit);
  EXPECT_GE(found.codes.min().item<std::int64_t>(), bits == 8 ? -limit : -limit - 1);
  for (std::int64_t i = 0; i < found.codes.size(0); ++i) {
    EXPECT_LE(std::get<0>(at::_unique(found.codes[i])).numel(), std::int64_t{1} << bits);
  }
  // No worse than the widest element of a row at its last code.
  const at::Tensor widest = table.gather(1, table.abs().argmax(1, true));
  const at::Tensor step = bits == 8 ? widest.abs() / 127 : widest / static_cast<double>(-limit - 1);
  const at::Tensor plain = at::round(table / step).clamp_max(limit) * step;
  const at::Tensor error = (found.dequantize() - table).square().sum(1);
  EXPECT_TRUE((error <= (plain - table).square().sum(1) * 1.001).all().item<bool>());
}

TEST_P(Embedding, TheArtifactFollowsTheSimulationAndHoldsNoFloatTable) {
  testing::TempDir folder;
  for (const BitWidths widths : {BitWidths{8, 8}, BitWidths{4, 16}}) {
    const auto plans = plans_of(prepared, recipe_of(widths, GetParam()));
    const Lowered module = lowered(prepared, plans);
    testing::check(prepared, module, plans);  // throws where a call differs
    EXPECT_EQ(float_copies(module, table), 0);
    const auto site = std::find_if(module.sites.begin(), module.sites.end(),
                                   [](const LoweredSite& row) { return row.path == kTable; });
    ASSERT_NE(site, module.sites.end());
    EXPECT_EQ(site->input, SiteInput::kIndices);
    const at::Tensor codes = module.module.attr(site->module).toModule().attr("codes").toTensor();
    EXPECT_EQ(static_cast<std::int64_t>(codes.nbytes()),
              table.numel() * (GetParam() > 4 ? 2 : 1) / 2);
    const auto path = folder / "model.pt";
    testing::save(module, path);
    check_reloaded(path.string(), run_module(module.module, prepared.batches[0]),
                   prepared.batches[0]);
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, Embedding, ::testing::Values(8, 4, 3));

TEST(EmbeddingCodes, RowsOfMultiplesAreExact) {
  Prepared prepared = testing::prepare_fixture("decoder", "trace");
  for (Site& site : prepared.search.sites) {
    auto* embedding = std::get_if<EmbeddingSite>(&site.kind);
    if (embedding == nullptr) continue;
    const at::Tensor codes = at::randint(-6, 7, embedding->table.sizes(), at::kInt).to(at::kFloat);
    codes.select(1, 0).fill_(-8);
    codes[5].fill_(0);  // a padding row
    embedding->table = codes * at::arange(1, codes.size(0) + 1, at::kFloat).unsqueeze(1) / 64;
  }
  const QuantizedWeight found = table_of(plans_of(prepared, recipe_of({8, 8}, 4)));
  EXPECT_TRUE(at::allclose(found.dequantize(), constant_of(prepared.site(kTable)), 1e-6, 0));
  EXPECT_TRUE((found.dequantize()[5] == 0).all().item<bool>());
}

TEST(EmbeddingPlans, ZeroBitsLeaveTheTableAlone) {
  const Prepared prepared = testing::prepare_fixture("decoder", "trace");
  const auto plans = plans_of(prepared, recipe_of({8, 8}, 0));
  EXPECT_FALSE(has_table(plans));
  EXPECT_EQ(float_copies(lowered(prepared, plans), constant_of(prepared.site(kTable))), 1);
}

TEST(EmbeddingPlans, ATableThatAFloatHeadReadsStaysWhole) {
  const Prepared prepared = testing::prepare_fixture("decoder", "trace");
  Recipe recipe = recipe_of({8, 8}, 8);
  recipe.exclude = {"linear"};  // the head, a functional call of the root
  const auto plans = plans_of(prepared, recipe);
  EXPECT_FALSE(has_table(plans));
  EXPECT_EQ(float_copies(lowered(prepared, plans), constant_of(prepared.site(kTable))), 1);
}

TEST(EmbeddingPlans, LaterSitesAreFittedOnTheQuantizedRows) {
  const Prepared prepared = testing::prepare_fixture("decoder", "trace");
  const auto coarse = plans_of(prepared, recipe_of({8, 8}, 2));
  const auto fine = plans_of(prepared, recipe_of({8, 8}, 8));
  const auto error_of_first_linear = [](const std::vector<SitePlan>& plans) {
    for (const SitePlan& plan : plans) {
      if (plan.kind == SiteKind::kLinear) return plan.errors.output_sqnr_db;
    }
    return 0.0;
  };
  EXPECT_LT(error_of_first_linear(coarse) + 10, error_of_first_linear(fine));
}

}  // namespace
}  // namespace repquant
