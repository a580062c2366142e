// Convolutions of any shape compute what LibTorch's operators do, as Linears on windows or as sites
// with many groups; what stands between them stays channels last.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <tuple>
#include <vector>

#include "graph/loaded_text.h"
#include "graph/rewrite.h"
#include "graph/site.h"

namespace repquant {
namespace {

using testing::LoadedText;

struct Shape {
  const char* call;  // of x and self.w
  std::vector<std::int64_t> weight, input;
  SiteKind kind;
  std::size_t sites = 1;
};

const std::vector<Shape> kShapes{
    {"torch.conv1d(x, self.w, None, [2], [1])", {6, 4, 3}, {2, 4, 9}, SiteKind::kWindowedLinear},
    {"torch.conv1d(x, self.w, None, [3], [2], [2])",
     {6, 4, 3},
     {2, 4, 17},
     SiteKind::kWindowedLinear},
    {"torch.conv2d(x, self.w)", {6, 4, 3, 3}, {2, 4, 7, 9}, SiteKind::kWindowedLinear},
    {"torch.conv2d(x, self.w, None, [2, 1], [1, 2])",
     {6, 4, 3, 5},
     {2, 4, 7, 9},
     SiteKind::kWindowedLinear},
    {"torch.conv2d(x, self.w, None, [2, 2], [3, 3], [2, 3])",
     {5, 3, 4, 3},
     {3, 3, 11, 12},
     SiteKind::kWindowedLinear},
    {"torch.conv2d(x, self.w, None, [1, 1], [1, 1])",
     {6, 4, 1, 1},
     {2, 4, 5, 6},
     SiteKind::kWindowedLinear},
    {"torch.conv2d(x, self.w, None, [3, 2])",
     {6, 4, 2, 3},
     {2, 4, 8, 9},
     SiteKind::kWindowedLinear},
    {"torch.conv2d(x, self.w, None, [1, 1], \"same\")",
     {6, 4, 4, 3},
     {2, 4, 7, 9},
     SiteKind::kWindowedLinear},
    {"torch.conv2d(x, self.w, None, [2, 2], \"valid\", [2, 1])",
     {6, 4, 3, 3},
     {2, 4, 9, 8},
     SiteKind::kWindowedLinear},
    {"torch.conv3d(x, self.w, None, [1, 2, 1], [1, 1, 0])",
     {4, 3, 3, 3, 2},
     {2, 3, 4, 6, 5},
     SiteKind::kWindowedLinear},
    {"torch.conv2d(x, self.w, None, [1, 1], [1, 1], [1, 1], 2)",
     {6, 16, 3, 3},
     {2, 32, 5, 6},
     SiteKind::kWindowedLinear,
     2},
    {"torch.conv2d(x, self.w, None, [2, 2], [1, 1], [2, 2], 8)",
     {8, 1, 3, 3},
     {2, 8, 9, 6},
     SiteKind::kGroupedConvolution},
    {"torch.conv2d(x, self.w, None, [1, 1], [2, 2], [1, 1], 4)",
     {8, 2, 5, 5},
     {2, 8, 9, 6},
     SiteKind::kGroupedConvolution},
    {"torch.conv1d(x, self.w, None, [1], [1], [1], 40)",
     {80, 4, 3},
     {2, 160, 9},
     SiteKind::kGroupedConvolution},
    {"torch.conv1d(x, self.w, None, [1], \"same\", [1], 8)",
     {8, 1, 4},
     {2, 8, 9},
     SiteKind::kGroupedConvolution},
    {"torch.conv2d(x, self.w, None, [1, 1], \"same\", [3, 1], 4)",
     {8, 2, 4, 3},
     {2, 8, 12, 6},
     SiteKind::kGroupedConvolution},
};

TEST_F(LoadedText, ConvolutionsOfAnyShapeAreSites) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(shape.call);
    module_ = torch::jit::Module("m");
    parameter("w", at::randn(shape.weight));
    const Model model =
        load(std::string("def forward(self, x):\n    return ") + shape.call + " * 1.5\n");
    const at::Tensor x = at::randn(shape.input);
    run(model, {x});
    const SiteSearch search = sites(model, {x});
    ASSERT_EQ(search.sites.size(), shape.sites);
    EXPECT_TRUE(search.skipped.empty());
    std::int64_t macs = 0, parameters = 0;
    for (const Site& site : search.sites) {
      EXPECT_EQ(kind_of(site), shape.kind);
      macs += site.macs;
      parameters += constant_of(site).numel();
    }
    const at::Tensor weight = at::empty(shape.weight);
    const at::Tensor output = torch::jit::load(path_).forward({x}).toTensor();
    EXPECT_EQ(parameters, weight.numel());
    EXPECT_EQ(macs, output[0].numel() * weight[0].numel());
    // Sizes are not part of the graph.
    auto longer = shape.input;
    longer.back() += 3;
    longer.front() = 1;
    run(model, {at::randn(longer)});
  }
}

// Windows side by side and overlapping, what is cut off and added, one dimension, with a bias.
TEST_F(LoadedText, TransposedConvolutionsAreLinears) {
  const std::vector<std::tuple<std::string, std::vector<std::int64_t>, std::vector<std::int64_t>>>
      cases{
          {"torch.conv_transpose2d(x, self.w, None, [2, 2])", {6, 4, 2, 2}, {2, 6, 5, 3}},
          {"torch.conv_transpose2d(x, self.w, self.b, [2, 2], [1, 1])", {6, 4, 4, 4}, {2, 6, 5, 3}},
          {"torch.conv_transpose2d(x, self.w, self.b, [2, 3], [1, 0], [1, 2], 1, [1, 2])",
           {6, 4, 3, 3},
           {2, 6, 5, 3}},
          {"torch.conv_transpose1d(x, self.w, self.b, [4], [2], [1])", {6, 4, 8}, {2, 6, 7}}};
  for (const auto& [call, weight, input] : cases) {
    SCOPED_TRACE(call);
    module_ = torch::jit::Module("m");
    parameter("w", at::randn(weight));
    parameter("b", at::randn({4}));
    const Model model = load("def forward(self, x):\n    return " + call + "\n");
    const at::Tensor x = at::randn(input);
    run(model, {x});
    const SiteSearch search = sites(model, {x});
    ASSERT_EQ(search.sites.size(), 1U);
    EXPECT_TRUE(search.skipped.empty());
    EXPECT_EQ(search.sites[0].macs, x[0].numel() * at::empty(weight)[0].numel());
    auto longer = input;
    longer.back() += 3;
    run(model, {at::randn(longer)});
  }
}

TEST_F(LoadedText, BatchNormIsPartOfTheConvolution) {
  parameter("w", at::randn({6, 4, 3, 3}));
  parameter("depthwise", at::randn({6, 1, 3, 3}));
  for (const char* name : {"gamma", "beta", "mean"}) parameter(name, at::randn({6}));
  parameter("variance", at::rand({6}) + 0.5);
  const std::string norm =
      "torch.batch_norm(x, self.gamma, self.beta, self.mean, self.variance, False, 0.1, 1e-5, "
      "False)\n";
  const Model model = load(
      "def forward(self, x):\n"
      "    x = torch.conv2d(x, self.w, None, [1, 1], [1, 1])\n    x = " +
      norm + "    x = torch.conv2d(torch.relu(x), self.depthwise, self.beta, [1, 1], [1, 1], " +
      "[1, 1], 6)\n    return " + norm);
  run(model, {at::randn({2, 4, 5, 6})});
  for (const auto* node : all_nodes(*model.graph)) EXPECT_FALSE(is_kind(node, "aten::batch_norm"));
}

TEST_F(LoadedText, BatchNormOfWhatOthersReadStays) {
  parameter("w", at::randn({4, 4, 3, 3}));
  for (const char* name : {"gamma", "beta", "mean"}) parameter(name, at::randn({4}));
  parameter("variance", at::rand({4}) + 0.5);
  const Model model = load(
      "def forward(self, x):\n"
      "    x = torch.conv2d(x, self.w, None, [1, 1], [1, 1])\n"
      "    return x + torch.batch_norm(x, self.gamma, self.beta, self.mean, self.variance, False, "
      "0.1, 1e-5, False)\n");
  run(model, {at::randn({2, 4, 5, 6})});
}

TEST_F(LoadedText, ValuesStayChannelsLastBetweenConvolutions) {
  parameter("a", at::randn({8, 4, 3, 3}));
  parameter("b", at::randn({8, 8, 1, 1}));
  parameter("c", at::randn({8, 8, 3, 3}));
  const Model model = load(
      "def forward(self, x):\n"
      "    x = torch.silu(torch.conv2d(x, self.a, None, [2, 2], [1, 1]))\n"
      "    y = torch.relu(torch.conv2d(x, self.b) * 2.0)\n"
      "    return x + torch.conv2d(y, self.c, None, [1, 1], [1, 1])\n");
  const at::Tensor x = at::randn({2, 4, 9, 10});
  run(model, {x});
  int moves = 0;
  for (const auto* node : all_nodes(*model.graph)) {
    const bool of_windows = is_kind(node, "aten::permute") &&
                            is_kind(node->output()->uses().at(0).user, "aten::flatten");
    moves += is_kind(node, "aten::permute") && !of_windows ? 1 : 0;
  }
  EXPECT_EQ(moves, 2);  // of the input and of the output
}

}  // namespace
}  // namespace repquant
