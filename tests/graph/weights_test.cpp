// Weights that the graph casts, repeats or cannot read. Models are written as TorchScript text.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <map>
#include <set>
#include <string>

#include "graph/loaded_text.h"
#include "graph/site.h"

namespace repquant {
namespace {

using testing::count_kind;
using testing::LoadedText;

// Each cast asks for the type of what the layer before gave.
TEST_F(LoadedText, WeightsThatAreCastAreLinears) {
  for (const char* layer : {
           "x + torch.gelu(torch.linear(x, self.w.to(x.dtype)))",
           "x + torch.softmax(torch.linear(x, self.w.type_as(x)), -1) * 2",
           "torch.matmul(torch.silu(x).clamp(-2, 2), self.w.to(x))",
           "torch.layer_norm(x @ self.w.to(x.device, x.dtype), [8])",
           "x / x.square().mean([-1], True).sqrt() + torch.linear(x, self.w.half().float())",
           "torch.where(x > 0, torch.linear(x, self.w.to(6)), x)",
           "torch.cat([x, torch.linear(x, self.w.to(x.dtype))], -1)[:, :, 4:12]",
           "torch.linear(x.to(self.w.dtype), self.w.to(x.dtype)).exp().log1p()",
           "torch.scaled_dot_product_attention(x, x, torch.linear(x, self.w.to(x.dtype)))",
           "torch.linear(torch.max_pool1d(torch.pad(x, [1, 1]), 3, 1), self.w.to(x.dtype))",
       }) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({8, 8}).div(4).to(at::kHalf).to(at::kFloat));
    SCOPED_TRACE(layer);
    std::string code = "def forward(self, x):\n";
    for (int i = 0; i < 24; ++i) code += std::string("    x = ") + layer + "\n";
    const Model model = load(code + "    return x\n", 1, 3, at::kFloat);
    const at::Tensor x = at::randn({2, 5, 8});
    run(model, {x});
    const SiteSearch search = sites(model, {x});
    EXPECT_EQ(count_kind(search, SiteKind::kLinear), 24) << layer;
  }
}

// Data is read as float32, whatever the model is called with later.
TEST_F(LoadedText, WhatConvertsAnInputStays) {
  for (const char* code : {
           "def forward(self, x):\n    return torch.relu(torch.linear(x.to(6), self.w.to(6)))\n",
           "def forward(self, x):\n    return torch.relu(torch.linear(x, self.w))\n",
       }) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({8, 8}, at::kDouble));
    SCOPED_TRACE(code);
    const Model model = load(code, 1, 3, at::kFloat);
    const at::Tensor x = at::randn({2, 5, 8}, at::kDouble);
    EXPECT_EQ(run(model, {x}).scalar_type(), at::kFloat);
    EXPECT_EQ(count_kind(sites(model, {x.to(at::kFloat)}), SiteKind::kLinear), 1);
  }
}

TEST_F(LoadedText, ConvolutionsThatAreCastAreLinears) {
  parameter("w", at::randn({6, 3, 2, 2}));
  parameter("v", at::randn({4, 6, 1, 1}));
  const Model model = load(
      "def forward(self, x):\n"
      "    y = torch.relu(torch.conv2d(x, self.w.to(x.dtype), None, [2, 2]))\n"
      "    return torch.conv2d(y, self.v.to(y.dtype))\n",
      1, 4, at::kFloat);
  const at::Tensor x = at::randn({2, 3, 4, 6});
  run(model, {x});
  EXPECT_EQ(sites(model, {x}).sites.size(), 2U);
}

TEST_F(LoadedText, MatricesOfABatchAreLinears) {
  for (const char* body : {
           "torch.bmm(x, self.w.unsqueeze(0).expand(x.size(0), -1, -1))",
           "torch.bmm(x, self.w.expand(x.size(0), 8, 6))",
           "torch.bmm(x, self.v.expand(x.size(0), -1, -1).transpose(1, 2))",
           "torch.bmm(self.v.unsqueeze(0).expand(x.size(0), -1, -1), x.transpose(1, 2))",
           "torch.matmul(x, self.w.unsqueeze(0).repeat(x.size(0), 1, 1).contiguous())",
           "torch.matmul(x.unsqueeze(1), self.w.repeat(x.size(0), 2, 1, 1))",
           "torch.matmul(x[0], self.w.broadcast_to([x.size(0), 8, 6]))",
           "torch.baddbmm(x[:, :, :6], x, self.w.repeat(x.size(0), 1, 1))",
       }) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({8, 6}));
    parameter("v", at::randn({6, 8}));
    const Model model = load(std::string("def forward(self, x):\n    return ") + body + "\n", 1, 3);
    const at::Tensor x = at::randn({3, 5, 8});
    run(model, {x});
    run(model, {at::randn({1, 5, 8})});
    const SiteSearch search = sites(model, {x});
    EXPECT_EQ(count_kind(search, SiteKind::kLinear), 1) << body;
    EXPECT_TRUE(search.skipped.empty()) << body;
  }
}

// What the type of another input decides is known at run time only.
TEST_F(LoadedText, AWeightThatCannotBeReadIsAGap) {
  for (const char* body : {"torch.linear(x, self.w.to(y.dtype)) @ self.v",
                           "(torch.linear(x, self.v) @ self.w.to(y.dtype).t() * 2.0)",
                           "torch.softmax(torch.linear(x, self.v) @ self.w.to(y.dtype), -1) @ x",
                           "torch.softmax(torch.linear(x, self.v), -1) @ self.w.to(y.dtype)"}) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({8, 8}));
    parameter("v", at::randn({8, 8}));
    const Model model = load(std::string("def forward(self, x, y):\n    return ") + body + "\n", 2);
    const at::Tensor x = at::randn({8, 8});
    run(model, {x, x});
    const SiteSearch search = sites(model, {x, x});
    EXPECT_EQ(count_kind(search, SiteKind::kLinear), 1) << body;
    ASSERT_EQ(search.skipped.size(), 1U) << body;
    EXPECT_EQ(search.skipped[0].parameters, 64) << body;
    EXPECT_EQ(search.skipped[0].macs, 64) << body;
    EXPECT_NE(search.skipped[0].reason.find("parameters and sizes"), std::string::npos) << body;
  }
}

// Relative positions are looked up in a table: a product of two activations.
TEST_F(LoadedText, ATableOfPositionsIsNoWeight) {
  parameter("w", at::randn({8, 8}));
  parameter("table", at::randn({32, 8}));
  const Model model = load(
      "def forward(self, x):\n"
      "    return torch.matmul(torch.linear(x, self.w), self.table[:x.size(1)].transpose(0, 1))\n",
      1, 3, at::kFloat);
  const at::Tensor x = at::randn({2, 5, 8});
  run(model, {x});
  const SiteSearch search = sites(model, {x});
  EXPECT_EQ(count_kind(search, SiteKind::kProduct), 1);
  EXPECT_TRUE(search.skipped.empty());
}

// Nor are learned queries: their scores are those of an attention.
TEST_F(LoadedText, LearnedQueriesAreAttention) {
  parameter("w", at::randn({8, 8}));
  parameter("queries", at::randn({1, 2, 3, 4}));
  const Model model = load(
      "def forward(self, x):\n"
      "    k = torch.linear(x, self.w).view([x.size(0), x.size(1), 2, 4]).transpose(1, 2)\n"
      "    return torch.matmul(torch.softmax(torch.matmul(self.queries, k.mT), -1), k)\n",
      1, 3, at::kFloat);
  expect_attention(model, at::randn({2, 5, 8}), "queries");
}

TEST_F(LoadedText, ComplexNumbersAreNamed) {
  parameter("w", at::randn({8, 8}));
  parameter("c", at::randn({8, 8}, at::kComplexFloat));
  const Model model = load(
      "def forward(self, x):\n"
      "    y = torch.complex(torch.linear(x, self.w), x)\n"
      "    y = torch.linear(torch.matmul(y, self.c), self.c)\n"
      "    y = torch.matmul(torch.matmul(y, y.transpose(-2, -1)), y)\n"
      "    return torch.view_as_real(y)\n",
      1, 3, at::kFloat);
  const at::Tensor x = at::randn({2, 5, 8});
  run(model, {x});
  const SiteSearch search = sites(model, {x});
  EXPECT_EQ(search.sites.size(), 1U);
  int weights = 0, products = 0;
  for (const auto& gap : search.skipped) {
    weights += gap.reason == "a complex weight" ? 1 : 0;
    products += gap.reason == "a product of complex numbers" ? 1 : 0;
    EXPECT_GT(gap.macs, 0);
  }
  EXPECT_EQ(weights, 2);
  EXPECT_EQ(products, 2);
}

// At the size of the data nothing is padded, so that a run would not show it.
TEST_F(LoadedText, NormsThatArePaddedWithOtherNumbersAreNotFolded) {
  for (const std::string pad : {"torch.constant_pad_nd(h, p, 0.0)", "torch.pad(h, p)",
                                "torch.constant_pad_nd(h, p, 3.0)", "torch.pad(h, p, value=3.0)"}) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({8, 8}));
    parameter("gain", at::rand({8}));
    const Model model = load(
        "def forward(self, x):\n    h = torch.layer_norm(x, [8], self.gain)\n"
        "    p = [0, 0, 0, (5 - x.size(1) % 5) % 5]\n    return torch.linear(" +
            pad + ", self.w)\n",
        1, 3);
    run(model, {at::randn({2, 3, 8})});
    const SiteSearch search = sites(model, {at::randn({2, 5, 8})});
    ASSERT_EQ(search.sites.size(), 1U);
    EXPECT_EQ(norm_of(search.sites[0]) != nullptr, pad.find("3.0") == std::string::npos) << pad;
  }
}

TEST_F(LoadedText, ProductsOfOtherNumbersAreNamed) {
  parameter("w", at::randn({8, 8}));
  const Model model = load(
      "def forward(self, x):\n"
      "    y = torch.linear(x, self.w)\n"
      "    places = (y > 0).to(4)\n"
      "    both = torch.matmul(places, places.transpose(-2, -1)).to(6)\n"
      "    d = y.to(7)\n"
      "    d = torch.softmax(torch.matmul(d, d.transpose(-2, -1)), -1) @ d\n"
      "    return both @ d.to(6)\n",
      1, 3, at::kFloat);
  const at::Tensor x = at::randn({2, 5, 8});
  run(model, {x});
  const SiteSearch search = sites(model, {x});
  EXPECT_EQ(search.sites.size(), 2U);
  std::map<std::string, int> reasons;
  for (const auto& gap : search.skipped) ++reasons[gap.reason];
  EXPECT_EQ(reasons["a product of numbers of type Long"], 1);
  EXPECT_EQ(reasons["a product of numbers of type Double"], 2);
}

// A branch without outputs, in a module inside another one: LibTorch keeps neither.
TEST_F(LoadedText, GapsInBranchesHaveWholePaths) {
  torch::jit::Module expert("expert"), mixture("mixture"), layer("layer");
  expert.register_parameter("w", at::randn({8, 8}), false);
  expert.define("def forward(self, x):\n    return torch.linear(x, self.w)\n");
  mixture.register_module("expert", expert);
  mixture.define(
      "def forward(self, x):\n"
      "    y = torch.zeros_like(x)\n"
      "    if bool(x.sum() > 0):\n"
      "        y.add_(self.expert.forward(x))\n"
      "    for i in range(int(x.max())):\n"
      "        if i > 1:\n"
      "            y.add_(self.expert.forward(y))\n"
      "    return y\n");
  layer.register_module("mixture", mixture);
  layer.define("def forward(self, x):\n    return self.mixture.forward(x) + x\n");
  module_.register_module("first", layer);
  module_.register_module("second", layer.deepcopy());
  const Model model =
      load("def forward(self, x):\n    return self.second.forward(self.first.forward(x))\n", 1, 2,
           at::kFloat);
  run(model, {at::rand({3, 8}) * 4});
  std::multiset<std::string> paths;
  for (const auto& gap : find_sites(model).skipped) paths.insert(gap.path);
  const std::string first = "first.mixture.expert", second = "second.mixture.expert";
  EXPECT_EQ(paths, (std::multiset<std::string>{first, first, second, second}));
}

TEST_F(LoadedText, SaysWhatTheArtifactLacks) {
  parameter("w", at::randn({4, 4}));
  module_.register_attribute("context", c10::IntType::get(), c10::IValue(20));
  define("def encode(self, x):\n    return torch.linear(x, self.w)\n");
  const Model model = load(
      "def forward(self, x, mask: Optional[Tensor]=None, scale: float=0.5, flag: bool=False):\n"
      "    y = self.encode(x) * scale\n"
      "    if mask is not None:\n        y = y * mask\n"
      "    if flag:\n        y = y + 1\n"
      "    return y\n",
      2);
  std::string notes;
  for (const auto& note : model.notes) notes += note + "\n";
  EXPECT_NE(notes.find("encode()"), std::string::npos) << notes;
  EXPECT_NE(notes.find("context"), std::string::npos) << notes;
  EXPECT_NE(notes.find("scale=0.5, flag=False"), std::string::npos) << notes;
  ASSERT_EQ(model.defaults.size(), 2U);
  EXPECT_FALSE(model.defaults[0]);
  ASSERT_TRUE(model.defaults[1]);
  EXPECT_TRUE(model.defaults[1]->isNone());
}

}  // namespace
}  // namespace repquant
