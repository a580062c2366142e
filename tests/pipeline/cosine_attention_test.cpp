// Attention of cosines, as SwinV2 has it: codes of rows are those before they are normalised.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <cmath>

#include "pipeline/model_run.h"
#include "repquant/load.h"
#include "repquant/quantize.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::run;
using testing::saved_options;
using testing::sqnr_db;

TEST(CosineAttention, TakesCodesOfRowsBeforeTheyAreNormalised) {
  const testing::TempDir folder;
  at::manual_seed(4);
  torch::jit::Module model("Cosine");
  model.register_parameter("qkv", at::randn({96, 32}) / std::sqrt(32.0), false);
  model.register_parameter("proj", at::randn({32, 32}) / std::sqrt(32.0), false);
  model.register_parameter("scale", at::tensor({8.0F, 4.0F}).view({2, 1, 1}), false);
  model.register_parameter("positions", at::randn({2, 9, 9}), false);
  model.define(R"(
def forward(self, x: Tensor) -> Tensor:
    h = torch.linear(x, self.qkv).view(x.size(0), 9, 3, 2, 16).permute([2, 0, 3, 1, 4])
    q, k, v = h.unbind(0)
    q = q / torch.linalg_vector_norm(q, 2, [-1], True).clamp_min(1e-12).expand_as(q)
    k = k / torch.linalg_vector_norm(k, 2, [-1], True).clamp_min(1e-12).expand_as(k)
    a = torch.matmul(q, k.transpose(-2, -1)) * self.scale + self.positions
    y = torch.matmul(torch.softmax(a, -1), v).transpose(1, 2).reshape(x.size(0), 9, 32)
    return torch.linear(y, self.proj)
)");
  const auto options = saved_options(folder.path(), model, at::randn({24, 9, 32}));
  quantize(options);
  LoadReport report;
  const torch::jit::Module fused = load(options.output, {}, &report);
  int divided = 0;
  for (const LoadedSite& site : report.sites) {
    EXPECT_TRUE(site.fused) << site.module << ": " << site.reason;
    if (site.reason == "of rows before they are divided by their norms") ++divided;
  }
  EXPECT_EQ(divided, 2);
  for (const auto* node : fused.get_method("forward").graph()->nodes()) {
    EXPECT_STRNE(node->kind().toQualString(), "aten::expand_as");
  }
  at::Tensor x = at::randn({5, 9, 32});
  x[1][3].zero_();  // a row without a direction
  const at::Tensor portable = run(torch::jit::load(options.output), x);
  EXPECT_GT(sqnr_db(portable, run(fused, x)), 45);
  EXPECT_GT(sqnr_db(run(model, x), portable), 30);
}

}  // namespace
}  // namespace repquant
