// A model whose outputs are NaN in places, as of tokens that attend to nothing: it is quantized,
// and the run says so.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include <cmath>

#include "pipeline/model_run.h"
#include "repquant/load.h"
#include "repquant/quantize.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::run;
using testing::saved_options;

TEST(NanOutputs, AreSaidAndStayWhereTheyAre) {
  const testing::TempDir folder;
  at::manual_seed(6);
  torch::jit::Module model("Nan");
  model.register_parameter("weight", at::randn({16, 32}) / std::sqrt(32.0), false);
  // The first two of twelve rows are divided by zero.
  model.register_parameter("size", at::arange(12).sub(1).clamp_min(0).view({12, 1}).to(at::kFloat),
                           false);
  model.define(
      "def forward(self, x: Tensor) -> Tensor:\n"
      "    y = torch.linear(x, self.weight)\n"
      "    return y * self.size / self.size\n");
  const auto options = saved_options(folder.path(), model, at::randn({24, 12, 32}));
  std::string warnings;
  Observer observer;
  observer.warn = [&](const std::string& text) { warnings += text + "\n"; };
  quantize(options, observer);
  EXPECT_NE(warnings.find("outputs of the model are NaN in places"), std::string::npos) << warnings;
  const at::Tensor x = at::randn({3, 12, 32});
  EXPECT_TRUE(at::equal(at::isnan(run(load(options.output), x)), at::isnan(run(model, x))));
}

}  // namespace
}  // namespace repquant
