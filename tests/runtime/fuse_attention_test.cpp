#include "runtime/fuse.h"

#include <gtest/gtest.h>

#include "runtime/both_forms.h"
#include "runtime/saved_model.h"
#include "support/scripted.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using namespace testing;

std::vector<LoadedSite> fused_sites(const std::string& path) {
  LoadReport report;
  load(path, {}, &report);
  return report.sites;
}

/// Writes the artifact of an attention: `body` from q, k, v [B, 2, 6, 4] to what it returns.
/// Returns the model, and the inputs that it was made for.
Prepared save_attention(const std::string& body, std::map<std::string, at::Tensor> constants,
                        const std::string& path) {
  for (const char* name : {"q", "k", "v"}) add_linear(constants, name, 8, 16, name[0]);
  auto prepared = scripted(
      std::string(
          "  q = torch.linear(x, self.wq, self.bq).view(x.size(0), -1, 2, 4).transpose(1, 2)\n"
          "  k = torch.linear(x, self.wk, self.bk).view(x.size(0), -1, 2, 4).transpose(1, 2)\n"
          "  v = torch.linear(x, self.wv, self.bv).view(x.size(0), -1, 2, 4).transpose(1, 2)\n") +
          body,
      constants, normal_batches(1, {4, 6, 16}));
  const auto& inputs = prepared.batches[0];
  const auto plans = min_max_plans(prepared.model, prepared.search.sites, inputs, bits(8, 8));
  save(lower(prepared.model, prepared.search.sites, plans,
             {observe(prepared.model, inputs).observed, {}})
           .module,
       path);
  return prepared;
}

// The mask of shifted windows is added in another shape of the scores.
TEST(FuseAttention, TakesInMasksOfAnotherShape) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  const auto inputs = fixture_data("swin").inputs;
  save(lowered("swin", "trace", bits(8, 8)).module, path);
  int masked = 0;
  for (const LoadedSite& site : fused_sites(path)) {
    EXPECT_TRUE(site.fused) << site.module << ": " << site.reason;
    if (site.reason == "with what is added to its scores, computed apart") ++masked;
  }
  EXPECT_EQ(masked, 3);
  EXPECT_TRUE(differences(load_both(path, {}), inputs).empty());
}

// Tracing writes `scores / math.sqrt(d)` with a constant tensor without axes.
TEST(FuseAttention, ScoresAreScaledByNumbersAndByConstantsWithoutAxes) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  const std::map<std::string, at::Tensor> constants{{"scale", at::scalar_tensor(2.5, at::kDouble)},
                                                    {"mask", at::randn({6, 6})}};
  const auto inputs = save_attention(
                          "  a = torch.matmul(q, k.transpose(-2, -1)) / self.scale + self.mask\n"
                          "  return torch.matmul(torch.softmax(a, -1), v)\n",
                          constants, path)
                          .batches[0];
  LoadReport report;
  const auto fused = load(path, {}, &report);
  for (const auto& site : report.sites) EXPECT_TRUE(site.fused) << site.module << site.reason;
  EXPECT_GT(sqnr_db(outputs(torch::jit::load(path), inputs)[0], outputs(fused, inputs)[0]), 60);
}

// At the length of the plans the factor is positive.
TEST(FuseAttention, AFactorThatMayTurnScoresRoundStaysWithThem) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  const std::string body =
      "  a = torch.matmul(q, k.transpose(-2, -1)) * (float(x.size(1)) - 5.0)\n"
      "  return torch.matmul(torch.softmax(a, -1), v)\n";
  const auto prepared = save_attention(body, {}, path);
  const auto fused = load(path);
  for (const std::int64_t length : {6, 3}) {
    const std::vector<at::Tensor> x{Random(3).normal({4, length, 16})};
    const at::Tensor expected = output_tensors(
        run_graph(*prepared.model.graph, Schedule(*prepared.model.graph), copies_of(x)))[0];
    EXPECT_GT(sqnr_db(expected, outputs(torch::jit::load(path), x)[0]), 12) << length;
    EXPECT_GT(sqnr_db(expected, outputs(fused, x)[0]), 12) << length;
  }
}

struct Spelling {
  const char* name;
  const char* scores;  // from s = q k^T [B, 2, 6, 6] to a
  const char* note;    // of the softmax
  bool products;       // stay a product of their own
};

const std::vector<Spelling> kSpellings{
    {"constants_of_heads", "  a = s * self.heads + self.mask\n", "with mask", false},
    {"divided_by_constants_of_heads", "  a = self.mask + s / self.heads\n", "with mask", false},
    {"subtracted", "  a = s * 0.5 - self.mask\n", "with mask", false},
    {"kept_where", "  a = torch.where(self.lower, s, -3.4028234663852886e+38) + self.mask\n",
     "with mask", false},
    {"filled_where", "  a = torch.where(self.upper, float('-inf'), s * 0.5)\n", "with mask", false},
    // Row 0 is hidden throughout, by both masks together.
    {"filled_twice",
     "  a = s.masked_fill(self.upper, -3.4028234663852886e+38)\n"
     "  a = a.masked_fill(self.first, -3.4028234663852886e+38)\n",
     "with mask", false},
    {"subtracted_and_filled_twice",
     "  a = (s * 0.5 - self.mask).masked_fill(self.upper, -1e30)\n"
     "  a = torch.where(self.first, -1e30, a)\n",
     "with mask", false},
    {"filled_in_another_shape",
     "  a = s.reshape([-1, s.size(-2), s.size(-1)]).masked_fill(self.upper, "
     "-3.4028234663852886e+38)\n"
     "  a = a.reshape([x.size(0), 2, s.size(2), s.size(3)])\n",
     "with what is added to its scores, computed apart", false},
    {"scaled_behind_the_mask", "  a = (s + self.mask) * 0.5\n",
     "with what is added to its scores, computed apart", false},
    {"turned_round", "  a = s * -0.5\n", "with scores computed apart", true},
    {"heads_turned_round", "  a = s * (self.heads - 0.3)\n", "with scores computed apart", true},
    {"soft_cap", "  a = torch.tanh(s / 2.0) * 2.0 + self.mask\n", "with scores computed apart",
     true},
    {"filled_with_little", "  a = s.masked_fill(self.upper, -10.0)\n", "with scores computed apart",
     true},
    {"made_in_another_shape",
     "  a = torch.matmul(q.flatten(0, 1), k.flatten(0, 1).transpose(-2, -1))\n"
     "  a = a.reshape([x.size(0), 2, a.size(-2), a.size(-1)])\n",
     "with scores computed apart", true},
    {"shifted_by_themselves", "  a = s - s.amax(-1, True)\n", "with scores computed apart", true}};

class AttentionSpellings : public ::testing::TestWithParam<Spelling> {};

// At another batch size and length than the plans were made for, too.
TEST_P(AttentionSpellings, AreFused) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  const at::Tensor upper = at::ones({6, 6}, at::kBool).triu(1);
  const std::map<std::string, at::Tensor> constants{
      {"heads", at::tensor({0.5F, 0.25F}).view({2, 1, 1})},
      {"mask", at::randn({2, 6, 6})},
      {"upper", upper},
      {"first", at::arange(6) == 0},
      {"lower", upper.logical_not()}};
  save_attention("  s = torch.matmul(q, k.transpose(-2, -1))\n" + std::string(GetParam().scores) +
                     "  y = torch.matmul(torch.softmax(a, -1), v)\n"
                     "  return y.transpose(1, 2).flatten(2)\n",
                 constants, path);
  LoadReport report;
  const auto fused = load(path, {}, &report);
  int attends = 0;
  for (const auto& site : report.sites) {
    const bool products = site.op.find("attention") == std::string::npos && !site.fused;
    EXPECT_TRUE(site.fused || (products && GetParam().products)) << site.module << site.reason;
    if (site.reason == GetParam().note) ++attends;
  }
  EXPECT_EQ(attends, 1);
  for (const std::int64_t batch : {1, 4, 7}) {
    const std::vector<at::Tensor> x{Random(3).normal({batch, 6, 16})};
    EXPECT_GT(sqnr_db(outputs(torch::jit::load(path), x)[0], outputs(fused, x)[0]), 50) << batch;
  }
}

INSTANTIATE_TEST_SUITE_P(Spellings, AttentionSpellings, ::testing::ValuesIn(kSpellings),
                         [](const auto& parameter) { return parameter.param.name; });

}  // namespace
}  // namespace repquant
