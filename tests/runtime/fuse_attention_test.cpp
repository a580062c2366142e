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

// The mask of shifted windows is added in another shape of the scores.
TEST(FuseAttention, TakesInMasksOfAnotherShape) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  const auto inputs = fixture_data("swin").inputs;
  save(lowered("swin", "trace", bits(8, 8)).module, path);
  int masked = 0;
  for (const LoadedSite& site : fused_sites(path)) {
    EXPECT_TRUE(site.fused) << site.module << ": " << site.reason;
    if (site.reason == "with reshaped mask") ++masked;
  }
  EXPECT_EQ(masked, 3);
  EXPECT_TRUE(differences(load_both(path, {}), inputs).empty());
}

// Tracing writes `scores / math.sqrt(d)` with a constant tensor without axes.
TEST(FuseAttention, ScoresAreScaledByNumbersAndByConstantsWithoutAxes) {
  const TempDir dir;
  const auto path = (dir / "a.pt").string();
  std::map<std::string, at::Tensor> constants{{"scale", at::scalar_tensor(2.5, at::kDouble)},
                                              {"mask", at::randn({6, 6})}};
  for (const char* name : {"q", "k", "v"}) add_linear(constants, name, 8, 16, name[0]);
  const auto prepared = scripted(
      "  q = torch.linear(x, self.wq, self.bq).view(x.size(0), -1, 2, 4).transpose(1, 2)\n"
      "  k = torch.linear(x, self.wk, self.bk).view(x.size(0), -1, 2, 4).transpose(1, 2)\n"
      "  v = torch.linear(x, self.wv, self.bv).view(x.size(0), -1, 2, 4).transpose(1, 2)\n"
      "  a = torch.matmul(q, k.transpose(-2, -1)) / self.scale + self.mask\n"
      "  return torch.matmul(torch.softmax(a, -1), v)\n",
      constants, normal_batches(1, {4, 6, 16}));
  const auto& inputs = prepared.batches[0];
  const auto plans = min_max_plans(prepared.model, prepared.search.sites, inputs, bits(8, 8));
  save(lower(prepared.model, prepared.search.sites, plans,
             {observe(prepared.model, inputs).observed, {}})
           .module,
       path);
  LoadReport report;
  const auto fused = load(path, {}, &report);
  for (const auto& site : report.sites) EXPECT_TRUE(site.fused) << site.module << site.reason;
  EXPECT_GT(sqnr_db(outputs(torch::jit::load(path), inputs)[0], outputs(fused, inputs)[0]), 60);
}

}  // namespace
}  // namespace repquant
