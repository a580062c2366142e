// Rows of zeros, as padding and masks make them, in front of a norm: what a Linear without a bias
// adds to them would come out at full size.
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
using testing::sqnr_db;

struct ZeroRowsCase {
  const char* name;
  const char* body;  // from x [B, 12, 24] to y
};

const std::vector<ZeroRowsCase> kZeroRows{
    {"linear",
     "    h = torch.linear(x, self.first)\n"
     "    h = torch.layer_norm(h, [32], self.gain, self.shift)\n"
     "    return torch.linear(h, self.second)\n"},
    {"activation_and_mask",
     "    h = torch.gelu(torch.linear(x * (x.abs().sum(-1, True) > 0.0), self.first))\n"
     "    h = h / torch.linalg_vector_norm(h, 2, -1, True).clamp_min(1e-6)\n"
     "    return torch.linear(h.view(-1, 12, 32), self.second) + 1.0\n"},
    {"patches",
     "    h = torch.conv1d(x.transpose(1, 2), self.patch, None, [2])\n"
     "    h = torch.layer_norm(h.transpose(1, 2), [32], self.gain, self.shift)\n"
     "    return torch.linear(h, self.second)\n"}};

class ZeroRows : public ::testing::TestWithParam<ZeroRowsCase> {};

TEST_P(ZeroRows, StayWhatTheyAre) {
  const testing::TempDir folder;
  at::manual_seed(2);
  torch::jit::Module model("ZeroRows");
  model.register_parameter("first", at::randn({32, 24}) / std::sqrt(24.0), false);
  model.register_parameter("patch", at::randn({32, 24, 2}) / std::sqrt(48.0), false);
  model.register_parameter("second", at::randn({16, 32}) / std::sqrt(32.0), false);
  model.register_parameter("gain", at::rand({32}) + 0.5, false);
  model.register_parameter("shift", at::randn({32}), false);
  model.define(std::string("def forward(self, x: Tensor) -> Tensor:\n") + GetParam().body);
  // Not centred, so that rounding the weight moves the mean of the outputs.
  const auto options = saved_options(folder.path(), model, at::randn({24, 12, 24}) + 1.0);
  quantize(options);
  const at::Tensor zeros = at::zeros({2, 12, 24});
  EXPECT_GT(sqnr_db(run(model, zeros), run(load(options.output), zeros)), 30);
}

INSTANTIATE_TEST_SUITE_P(Cases, ZeroRows, ::testing::ValuesIn(kZeroRows),
                         [](const auto& parameter) { return parameter.param.name; });

}  // namespace
}  // namespace repquant
