// Convolutions from the model to the artifact: integers follow the model, and the fused form
// computes what the portable one does, at batch sizes and image sides that were not calibrated on.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "pipeline/model_run.h"
#include "recipe/bit_width.h"
#include "recipe/json.h"
#include "repquant/load.h"
#include "repquant/quantize.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::run;
using testing::saved_options;
using testing::sqnr_db;

struct ConvolutionBlock {
  const char* name;
  const char* body;  // from x [B, 16, H, W] to y
};

// `wide` is [32, 16, 3, 3], `narrow` [16, 32, 3, 3], `point` [16, 32, 1, 1], `groups` [16, 8, 3,
// 3], `halves` [16, 16, 3, 3], `depth` [16, 1, 3, 3], `even` [32, 16, 2, 4], `spread` [32, 16, 1,
// 1], `deep` [32, 1, 3, 3], `fours` [32, 4, 1, 1], `four` and `more` [6, 4], `row` [16, 1, 3],
// `fc1` [32, 16], `fc2` [16, 32].
const std::vector<ConvolutionBlock> kBlocks{
    {"relu_epilogue", R"(
    x = torch.relu(torch.conv2d(x, self.wide, self.bias, [1, 1], [1, 1]))
    y = torch.conv2d(x, self.narrow, None, [2, 2], [1, 1]))"},
    {"silu_and_residual", R"(
    z = torch.silu(torch.conv2d(x, self.wide, self.bias, [1, 1], [1, 1]))
    y = torch.silu(x + torch.conv2d(z, self.narrow, None, [1, 1], [2, 2], [2, 2])))"},
    {"pointwise_between", R"(
    x = torch.gelu(torch.conv2d(x, self.wide, self.bias, [2, 2], [1, 1]), approximate="none")
    x = torch.conv2d(x, self.point)
    y = torch.conv2d(x, self.wide, None, [1, 1], [1, 1]))"},
    {"two_readers", R"(
    x = torch.conv2d(x, self.wide, self.bias, [1, 1], [1, 1])
    y = torch.conv2d(x, self.narrow, None, [1, 1], [1, 1]) * torch.conv2d(x, self.point))"},
    {"groups", R"(
    x = torch.relu(torch.conv2d(x, self.groups, None, [1, 1], [1, 1], [1, 1], 2))
    x = torch.conv2d(x, self.wide, self.bias, [1, 1], [1, 1])
    x = torch.relu(torch.conv2d(x, self.halves, None, [1, 1], [1, 1], [1, 1], 2))
    y = torch.conv2d(x, self.even, self.bias, [1, 1], "same"))"},
    {"depthwise", R"(
    x = torch.silu(torch.conv2d(x, self.depth, None, [2, 2], [1, 1], [1, 1], 16))
    y = torch.conv2d(x, self.wide, self.bias, [1, 1], [1, 1]))"},
    {"inverted_residual", R"(
    z = torch.hardswish(torch.conv2d(x, self.spread, self.bias))
    z = torch.hardswish(
        torch.conv2d(z, self.deep, self.bias, [1, 1], [1, 1], [1, 1], 32))
    y = x + torch.conv2d(z, self.point))"},
    {"dilated_depthwise_between_readers", R"(
    x = torch.conv2d(x, self.spread, self.bias)
    z = torch.conv2d(x, self.deep, None, [1, 1], [3, 3], [3, 3], 32)
    y = torch.conv2d(x + z, self.point) + torch.conv2d(z, self.point))"},
    {"depthwise_twice", R"(
    z = torch.conv2d(x, self.spread, self.bias)
    z = torch.relu(torch.conv2d(z, self.deep, None, [1, 1], [1, 1], [1, 1], 32))
    z = torch.conv2d(z, self.deep, self.bias, [2, 1], [1, 0], [1, 1], 32)
    y = torch.conv2d(torch.silu(z), self.point))"},
    {"depthwise_in_mlp", R"(
    t = torch.linear(x.flatten(2).transpose(1, 2), self.fc1)
    z = t.transpose(1, 2).reshape([x.size(0), 32, x.size(2), x.size(3)])
    z = torch.conv2d(z, self.deep, self.bias, [1, 1], [1, 1], [1, 1], 32)
    z = torch.gelu(z.flatten(2).transpose(1, 2), approximate="none")
    y = torch.linear(z, self.fc2))"},
    {"depthwise_over_tokens", R"(
    t = x.flatten(2)
    t = torch.silu(torch.conv1d(t, self.row, None, [1], [1], [1], 16))
    y = torch.linear(t.transpose(1, 2), self.fc1))"},
    {"small_groups", R"(
    z = torch.conv2d(x, self.spread, self.bias)
    z = torch.hardswish(torch.conv2d(z, self.fours, None, [1, 1], [0, 0], [1, 1], 8))
    y = torch.conv2d(z, self.point, None))"},
    {"groups_of_a_part", R"(
    t = x.flatten(2).transpose(1, 2)
    parts = [torch.linear(t.narrow(-1, 0, 4), self.four), torch.linear(t.narrow(-1, 4, 4), self.more)]
    y = torch.cat(parts, -1))"},
    {"tokens", R"(
    t = torch.linear(x.flatten(2).transpose(1, 2), self.token)
    x = t.transpose(1, 2).reshape([x.size(0), 16, x.size(2), x.size(3)])
    y = torch.conv2d(x, self.wide, self.bias, [1, 1], [1, 1]))"},
};

torch::jit::Module make_convolutions(const ConvolutionBlock& block) {
  at::manual_seed(5);
  torch::jit::Module module("Convolutions");
  const auto add = [&](const char* name, const std::vector<std::int64_t>& sizes) {
    const at::Tensor weight = at::randn(sizes);
    const double fan = static_cast<double>(weight[0].numel());
    module.register_parameter(name, weight / std::sqrt(fan), false);
  };
  add("stem", {16, 3, 3, 3});
  add("wide", {32, 16, 3, 3});
  add("narrow", {16, 32, 3, 3});
  add("point", {16, 32, 1, 1});
  add("groups", {16, 8, 3, 3});
  add("halves", {16, 16, 3, 3});
  add("depth", {16, 1, 3, 3});
  add("even", {32, 16, 2, 4});
  add("token", {16, 16});
  add("spread", {32, 16, 1, 1});
  add("deep", {32, 1, 3, 3});
  add("row", {16, 1, 3});
  add("fours", {32, 4, 1, 1});
  add("four", {6, 4});
  add("more", {6, 4});
  add("fc1", {32, 16});
  add("fc2", {16, 32});
  module.register_parameter("bias", at::randn({32}), false);
  module.define(std::string(R"(
def forward(self, x: Tensor) -> Tensor:
    x = torch.conv2d(x, self.stem, None, [2, 2], [1, 1])
)") + block.body +
                "\n    return y\n");
  return module;
}

class Convolutions : public ::testing::TestWithParam<ConvolutionBlock> {};

TEST_P(Convolutions, BothFormsFollowTheModelAtAnySize) {
  const testing::TempDir folder;
  const torch::jit::Module model = make_convolutions(GetParam());
  auto options = saved_options(folder.path(), model, at::randn({24, 3, 20, 24}));
  for (const BitWidths bits : {BitWidths{8, 8}, BitWidths{4, 4}, BitWidths{4, 16}}) {
    SCOPED_TRACE(to_string(bits));
    options.recipe = recipe_for_bits(bits);
    options.force = true;
    options.strict = true;
    const QuantizeReport report = quantize(options);
    EXPECT_DOUBLE_EQ(report.coverage.mac_share(), 1.0);
    const torch::jit::Module fused = load(options.output);
    const torch::jit::Module portable = torch::jit::load(options.output);
    for (const auto& [batch, height] : {std::pair{16, 20}, {3, 15}, {1, 32}}) {
      SCOPED_TRACE(std::to_string(batch) + " x " + std::to_string(height));
      const at::Tensor x = at::randn({batch, 3, height, 24});
      const at::Tensor expected = run(model, x), got = run(fused, x), own = run(portable, x);
      ASSERT_EQ(got.sizes(), expected.sizes());
      ASSERT_EQ(own.sizes(), expected.sizes());
      EXPECT_GT(sqnr_db(own, got), bits.activation_bits == 4 ? 20 : 40);
      EXPECT_GT(sqnr_db(expected, got), bits.weight_bits == 8 ? 30 : 8);
    }
  }
}

/// Operators of the fused form by name, of a model calibrated at w8a8.
std::map<std::string, std::int64_t> operators_of(const char* block) {
  const auto found = std::find_if(kBlocks.begin(), kBlocks.end(), [&](const auto& known) {
    return std::string(known.name) == block;
  });
  const testing::TempDir folder;
  const torch::jit::Module model = make_convolutions(*found);
  const auto options = saved_options(folder.path(), model, at::randn({24, 3, 20, 24}));
  quantize(options);
  std::map<std::string, std::int64_t> count;
  const torch::jit::Module fused = load(options.output);
  const auto graph = fused.get_method("forward").graph();
  for (const auto* node : graph->nodes()) {
    ++count[node->kind().toQualString()];
  }
  return count;
}

// Codes go from the Linear in front of a depthwise convolution to it, and from it to the one
// behind.
TEST(FusedConvolutions, CodesAreAllThatIsWrittenBetween) {
  for (const char* block : {"inverted_residual", "depthwise_in_mlp"}) {
    SCOPED_TRACE(block);
    auto count = operators_of(block);
    EXPECT_EQ(count["repquant::depthwise_tokens"], 1);
    EXPECT_EQ(count["aten::hardswish"] + count["aten::gelu"], 0);
    EXPECT_EQ(count["prim::CallMethod"], 0);
  }
  auto mlp = operators_of("inverted_residual");
  EXPECT_EQ(mlp["repquant::quantize"], 1);  // of the image
}

TEST(FusedConvolutions, SmallGroupsAreOneOperator) {
  auto count = operators_of("small_groups");
  EXPECT_EQ(count["repquant::grouped_linear"], 1);
  EXPECT_EQ(count["repquant::linear"], 2);  // in front and behind; the stem writes codes, too
  EXPECT_EQ(count["repquant::cat"] + count["aten::cat"], 0);
  EXPECT_EQ(count["prim::CallMethod"], 0);
}

TEST(FusedConvolutions, FloatsStayWhereOthersReadThem) {
  auto count = operators_of("dilated_depthwise_between_readers");
  EXPECT_EQ(count["repquant::depthwise"], 1);
  EXPECT_EQ(count["prim::CallMethod"], 0);
}

INSTANTIATE_TEST_SUITE_P(Blocks, Convolutions, ::testing::ValuesIn(kBlocks),
                         [](const auto& parameter) { return parameter.param.name; });

}  // namespace
}  // namespace repquant
