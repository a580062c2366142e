// Linears, products and attention in every spelling. Models are written as TorchScript text.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <limits>

#include "graph/loaded_text.h"
#include "graph/rewrite.h"
#include "graph/site.h"

namespace repquant {
namespace {

using testing::count_kind;
using testing::LoadedText;

/// [5, 5] to add to scores: row 1 sees nothing.
at::Tensor mask_of_row_one() {
  at::Tensor mask = at::zeros({5, 5});
  mask[1].fill_(-std::numeric_limits<float>::infinity());
  return mask;
}

struct Spelling {
  const char* body;
  std::vector<std::int64_t> weight, input;
  std::size_t linears;
};

TEST_F(LoadedText, ConstantsInAnySpellingAreLinears) {
  const std::vector<Spelling> spellings{
      {"torch.einsum(\"bnd,dhe->bnhe\", x, self.w)", {8, 2, 4}, {3, 5, 8}, 1},
      {"torch.einsum(\"bnhe,hed->bnd\", x, self.w)", {2, 4, 6}, {3, 5, 2, 4}, 1},
      {"torch.einsum(\"hd,bhnm->bdnm\", self.w, x)", {4, 6}, {3, 4, 5, 2}, 1},
      {"torch.einsum(\"...d,de\", x, self.w)", {4, 6}, {3, 4}, 0},  // the rank is not known
      {"torch.einsum(\"...d,de->...e\", x.view([3, 5, 8]).pow(2).repeat([1, 1, 1]), self.w)",
       {8, 6},
       {3, 5, 8},
       1},
      {"torch.einsum(\"bnd,ed->be\", x, self.w)", {6, 8}, {3, 5, 8}, 1},
      {"torch.tensordot(x.view([3, 5, 8]), self.w, [2], [0])", {8, 2, 3}, {3, 5, 8}, 1},
      {"torch.tensordot(self.w, x.view([3, 5, 2, 4]), [1, -1], [2, 3])", {6, 2, 4}, {3, 5, 8}, 1},
      {"torch.inner(x.view([3, 5, 8]), self.w)", {6, 8}, {3, 5, 8}, 1},
      {"torch.matmul(x, self.w)", {8}, {3, 5, 8}, 1},
      {"torch.mv(x, self.w)", {8}, {5, 8}, 1},
      {"torch.bmm(x, self.w)", {3, 8, 4}, {3, 5, 8}, 3},
      {"torch.matmul(self.w, x)", {6, 5}, {3, 5, 8}, 1},
      {"torch.bmm(self.w, x)", {3, 4, 5}, {3, 5, 8}, 3},
      {"torch.matmul(x.view([-1, 3, 5, 8]), self.w)", {1, 3, 8, 4}, {6, 5, 8}, 3},
      {"torch.matmul(self.w, x.view([-1, 3, 5, 8]))", {1, 3, 4, 5}, {6, 5, 8}, 3},
      {"torch.mm(x, self.w)", {8, 4}, {5, 8}, 1},
      {"torch.conv1d(x, self.w)", {6, 8, 1}, {3, 8, 7}, 1},
      {"torch.conv2d(x, self.w, None, [2, 2])", {6, 8, 1, 1}, {3, 8, 5, 7}, 1},
      {"torch.conv3d(x, self.w, None, [2, 2, 2])", {6, 3, 2, 2, 2}, {3, 3, 4, 5, 6}, 1},
      {"torch.conv1d(x, self.w, None, [4])", {6, 8, 4}, {3, 8, 13}, 1},
      {"torch.conv1d(x, self.w, None, [1], [0], [1], 2)", {6, 4, 1}, {3, 8, 7}, 2},
      {"torch.conv2d(x, self.w, None, [1, 1], [1, 1])", {6, 8, 3, 3}, {3, 8, 5, 7}, 1},
  };
  for (const auto& spelling : spellings) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn(spelling.weight));
    const Model model =
        load(std::string("def forward(self, x):\n    return ") + spelling.body + " * 1.5\n");
    const at::Tensor x = at::randn(spelling.input);
    run(model, {x});
    const SiteSearch search = sites(model, {x});
    EXPECT_EQ(search.sites.size(), spelling.linears) << spelling.body;
    EXPECT_EQ(search.skipped.empty(), spelling.linears > 0) << spelling.body;
    std::int64_t macs = 0, parameters = 0;
    for (const auto& site : search.sites) {
      macs += site.macs;
      parameters += constant_of(site).numel();
    }
    for (const auto& gap : search.skipped) {
      macs += gap.macs;
      parameters += gap.parameters;
      EXPECT_FALSE(gap.reason.empty());
    }
    EXPECT_GT(macs, 0) << spelling.body;
    EXPECT_EQ(parameters, at::randn(spelling.weight).numel()) << spelling.body;
  }
}

// Two Linears of one weight: a view of another one's memory is no weight of its own.
TEST_F(LoadedText, TransposedWeightsAreContiguous) {
  parameter("w", at::randn({4, 8}));
  const Model model = load(
      "def forward(self, x):\n"
      "    return torch.linear(torch.linear(x, self.w), self.w.t())\n");
  const at::Tensor x = at::randn({3, 8});
  run(model, {x});
  const SiteSearch search = sites(model, {x});
  ASSERT_EQ(search.sites.size(), 2U);
  for (const Site& site : search.sites) EXPECT_TRUE(constant_of(site).is_contiguous());
}

// A sum of another type than the product is no bias, and a bias may be computed.
TEST_F(LoadedText, BiasesOfEveryKind) {
  for (const std::string body :
       {"torch.matmul(x, self.w.t()) + self.n", "torch.matmul(x, self.w.t()) + self.d",
        "self.m + torch.matmul(x, self.w.t())", "torch.linear(x, self.w, x.mean([0, 1])[:4])",
        "torch.linear(x, self.w, self.d.to(6) * x.sum())"}) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({4, 8}));
    parameter("n", at::arange(4));
    parameter("m", at::arange(4) > 1);
    parameter("d", at::randn({4}, at::kDouble));
    const Model model = load("def forward(self, x):\n    return " + body + "\n", 1, 3);
    const at::Tensor x = at::randn({2, 3, 8});
    run(model, {x});
    const SiteSearch search = sites(model, {x});
    ASSERT_EQ(search.sites.size(), 1U) << body;
    EXPECT_TRUE(search.skipped.empty()) << body;
  }
}

// Not of x itself where that is no float32, and only where the width is known.
TEST_F(LoadedText, NormsOfConvertedValues) {
  for (const auto type : {at::kByte, at::kLong, at::kDouble, at::kFloat}) {
    for (const std::int64_t width : {1, 8}) {
      module_ = torch::jit::Module("m");
      parameter("w", at::randn({4, 8}));
      parameter("gain", at::rand({width}));
      const Model model = load(
          "def forward(self, x):\n    y = x.to(6)\n"
          "    y = y * torch.rsqrt(y.pow(2).mean([-1], True) + 1e-6)\n"
          "    return torch.linear(y * self.gain, self.w)\n",
          1, 3, type);
      run(model, {at::randint(1, 100, {2, 3, 8}).to(type)});
      int norms = 0;
      for (const auto* node : model.graph->nodes())
        norms += is_kind(node, "aten::rms_norm") ? 1 : 0;
      EXPECT_EQ(norms, width > 1 ? 1 : 0);
    }
  }
}

TEST_F(LoadedText, LeadingOnesOfAConstantAreBroadcast) {
  const std::vector<Spelling> cases{
      {"torch.matmul(x, self.w) + 1.0", {1, 8, 6}, {3, 5, 8}, 1},
      {"torch.matmul(self.w, x)", {1, 6, 5}, {3, 5, 8}, 1},
      {"torch.matmul(x, self.w)", {1, 8, 6}, {3, 2, 5, 8}, 1},
      {"torch.matmul(self.w, x)", {1, 1, 6, 5}, {3, 2, 5, 8}, 1},
      {"torch.matmul(x, self.w)", {1, 2, 8, 6}, {3, 2, 5, 8}, 2},
      {"torch.matmul(x, self.w)", {1, 8, 6}, {5, 8}, 1},
      {"torch.matmul(x, self.w.mT.unsqueeze(0))", {6, 8}, {3, 5, 8}, 1},
      {"torch.bmm(x, self.w)", {1, 8, 6}, {1, 5, 8}, 1},
  };
  for (const Spelling& c : cases) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn(c.weight));
    const at::Tensor x = at::randn(c.input);
    const Model model =
        load(std::string("def forward(self, x):\n    return ") + c.body + "\n", 1, x.dim());
    run(model, {x});
    const SiteSearch search = sites(model, {x});
    EXPECT_EQ(search.sites.size(), c.linears) << c.body << x.dim();
    EXPECT_TRUE(search.skipped.empty()) << c.body;
  }
}

TEST_F(LoadedText, ManyConstantMatricesAreLinearsUpToABound) {
  for (const std::int64_t count : {100, 513}) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({count, 4, 2}));
    const Model model = load("def forward(self, x):\n    return torch.matmul(x, self.w)\n", 1, 3);
    const at::Tensor x = at::randn({count, 3, 4});
    run(model, {x});
    const SiteSearch search = sites(model, {x});
    EXPECT_EQ(std::ssize(search.sites), count == 100 ? 100 : 0);
    ASSERT_EQ(search.skipped.size(), count == 100 ? 0U : 1U);
    if (count == 100) continue;
    EXPECT_EQ(search.skipped[0].reason, "a batch of 513 constant matrices, more than 512");
  }
}

// Rewrites give their results another order in memory than what they stand for.
TEST_F(LoadedText, ViewsOfWhatIsRewrittenMayCopy) {
  const std::vector<std::string> bodies{
      // v a^T as (a v^T)^T
      "    a = torch.softmax(torch.matmul(y, y.transpose(1, 2)), -1)\n"
      "    z = torch.matmul(y.transpose(1, 2), a.transpose(1, 2))\n"
      "    return z.view([3, 40]) + z.view_as(y).sum()\n",
      "    z = torch.matmul(self.m, y)\n    return torch._unsafe_view(z, [3, 48])\n",
      "    z = torch.conv1d(y, self.k)\n    return z.view([3, -1])\n",
      "    z = torch.relu(torch.conv1d(y, self.k))\n"
      "    return torch.as_strided(z, [3, 4, 7, 2], [32, 8, 1, 1])\n",
  };
  for (const std::string& body : bodies) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({8, 8}));
    parameter("m", at::randn({6, 5}));
    parameter("k", at::randn({4, 5, 1}));
    const Model model =
        load("def forward(self, x):\n    y = torch.linear(x, self.w)\n" + body, 1, 3);
    run(model, {at::randn({3, 5, 8})});
    for (const auto* node : all_nodes(*model.graph)) {
      EXPECT_FALSE(is_kind(node, "aten::view")) << body;
      EXPECT_FALSE(is_kind(node, "aten::view_as")) << body;
    }
  }
}

TEST_F(LoadedText, BilinearIsALinearAndAProduct) {
  for (const bool with_bias : {false, true}) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({8, 8}) * 0.3);
    parameter("t", at::randn({6, 8, 8}) * 0.3);
    parameter("b", at::randn({6}));
    const Model model = load(std::string("def forward(self, x):\n"
                                         "    h = torch.linear(x, self.w)\n"
                                         "    return torch.bilinear(h, h.flip(1), self.t, ") +
                                 (with_bias ? "self.b)\n" : "None)\n"),
                             1, 3);
    const at::Tensor x = at::randn({3, 5, 8});
    run(model, {x});
    const SiteSearch search = sites(model, {x});
    EXPECT_EQ(count_kind(search, SiteKind::kLinear), 2);
    EXPECT_EQ(count_kind(search, SiteKind::kProduct), 1);
    EXPECT_TRUE(search.skipped.empty());
  }
}

// Rows sorted by expert; one expert has none.
TEST_F(LoadedText, GroupedProductsAreLinears) {
  parameter("w", at::randn({4, 8, 12}));
  const Model model = load(
      "def forward(self, x):\n"
      "    rows = torch.relu(x).flatten(0, 1)\n"
      "    ends = torch.tensor([2, 2, 4, rows.size(0)], dtype=3)\n"
      "    return torch._grouped_mm(rows, self.w, ends)\n");
  const at::Tensor x = at::randn({3, 5, 8});
  run(model, {x});
  const SiteSearch search = sites(model, {x});
  EXPECT_EQ(search.sites.size(), 4U);
  EXPECT_TRUE(search.skipped.empty());
}

TEST_F(LoadedText, AttentionTheOtherWayRound) {
  const std::vector<std::string> bodies{
      "v @ torch.softmax(q.transpose(-2, -1) @ k * 0.25, -1).transpose(-2, -1)",
      "v @ torch.softmax(k.transpose(-2, -1) @ q * 0.25, -2)",
      "torch.einsum(\"bij,bcj->bci\", torch.softmax(q.transpose(-2, -1) @ k, -1), v)",
  };
  for (const auto& body : bodies) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({12, 4}) * 0.3);
    const Model model = load(
        "def forward(self, x):\n"
        "    q, k, v = torch.linear(x, self.w).transpose(1, 2).chunk(3, 1)\n    return " +
        body + "\n");
    expect_attention(model, at::randn({3, 5, 4}), body);
  }
}

// Ranks are known while a model is loaded alone.
TEST_F(LoadedText, TheLastDimensionMayBeCountedFromTheFront) {
  parameter("w", at::randn({12, 4}));
  const Model model = load(
      "def forward(self, x):\n    q, k, v = torch.linear(x, self.w).chunk(3, -1)\n"
      "    return torch.softmax(q @ k.transpose(1, 2), 2) @ v\n",
      1, 3);
  expect_attention(model, at::randn({3, 5, 4}), "softmax(scores, 2)");
}

TEST_F(LoadedText, AVectorTimesAttentionStaysOnTheLeft) {
  parameter("w", at::randn({12, 4}));
  const Model model = load(
      "def forward(self, x):\n    q, k, v = torch.linear(x, self.w).chunk(3, -1)\n"
      "    a = torch.softmax(q @ k.transpose(-2, -1), -1)\n"
      "    return torch.matmul(v.mean([0, 2]), a.transpose(-2, -1))\n",
      1, 3);
  run(model, {at::randn({3, 5, 4})});
}

// Renormalised rows, zeros for rows that are masked throughout, sinks, soft caps.
TEST_F(LoadedText, BetweenScoresAndProductOfAttention) {
  const std::vector<std::string> bodies{
      "torch.nan_to_num(torch.softmax(s + self.mask, -1)) @ v",
      "torch.nan_to_num(0.5 * torch.softmax(s + self.mask, -1), 0.0) @ v",
      "w / w.sum([-1], True) @ v",
      "torch.nan_to_num(w / (w.sum([-1], True) + 0.25)) @ v",
      "torch.softmax(torch.cat([s, s[:, :, :2]], -1), -1)[:, :, :-2] @ v",
      "torch.softmax(20 * torch.tanh(s / 20), -1) @ v",
  };
  for (const auto& body : bodies) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({12, 4}));
    parameter("mask", mask_of_row_one());
    const Model model = load(
        "def forward(self, x):\n    q, k, v = torch.linear(x, self.w).chunk(3, -1)\n"
        "    s = q @ k.transpose(-2, -1) * 0.5\n    w = torch.softmax(s, -1)\n    return " +
            body + "\n",
        1, 3);
    expect_attention(model, at::randn({3, 5, 4}), body);
  }
}

// A row that is NaN in part is no row of a softmax any more.
TEST_F(LoadedText, NanInColumnsStaysBeforeTheProduct) {
  parameter("w", at::randn({12, 4}));
  parameter("mask", mask_of_row_one());
  const Model model = load(
      "def forward(self, x):\n    q, k, v = torch.linear(x, self.w).chunk(3, -1)\n"
      "    w = torch.softmax(q @ k.transpose(-2, -1) + self.mask, -1)\n"
      "    return torch.nan_to_num(w.transpose(-2, -1)) @ v\n",
      1, 3);
  run(model, {at::randn({3, 5, 4})});
  // Samples compete, and what none may attend to is NaN for all.
  module_ = torch::jit::Module("m");
  parameter("w", at::randn({12, 4}));
  const Model across = load(
      "def forward(self, x):\n    q, k, v = torch.linear(x, self.w).chunk(3, -1)\n"
      "    hidden = torch.ones([5, 5], dtype=11).triu(1)\n"
      "    s = (q @ k.transpose(-2, -1)).masked_fill(hidden, float(\"-inf\"))\n"
      "    return torch.nan_to_num(torch.softmax(s, 0)) @ v\n",
      1, 3);
  run(across, {at::randn({3, 5, 4})});
}

/// q, k, v of one Linear and an attention with what stands in `mask`.
std::string masked_attention(const std::string& lines) {
  return "def forward(self, x):\n    q, k, v = torch.linear(x, self.w).chunk(3, -1)\n"
         "    n = torch.arange(x.size(1))\n" +
         lines + "    return torch.scaled_dot_product_attention(q, k, v, mask)\n";
}

// Nothing but the softmax reads the scores, or they could not become one operator with it.
TEST_F(LoadedText, MasksOfTruthValuesNeedNoBranch) {
  const char* masks[] = {
      "    mask = n <= n[:, None]\n",
      "    mask = (n <= n[:, None]).logical_not().logical_not()[None].expand([1, 5, 5])\n",
      "    mask = torch.ones([5, 5], dtype=11).tril() & (n < 4).to(11)\n",
  };
  for (const char* mask : masks) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({12, 4}));
    const Model model = load(masked_attention(mask), 1, 3);
    expect_attention(model, at::randn({3, 5, 4}), mask);
    for (const auto* node : model.graph->nodes()) {
      EXPECT_NE(node->kind(), c10::prim::If) << mask;
      if (!is_kind(node, "aten::matmul")) continue;
      EXPECT_EQ(node->output()->uses().size(), 1U) << mask;
    }
  }
}

TEST_F(LoadedText, MasksOfUnknownTypeKeepBothMeanings) {
  parameter("w", at::randn({12, 4}));
  const Model model = load(
      "def forward(self, x, mask):\n    q, k, v = torch.linear(x, self.w).chunk(3, -1)\n"
      "    return torch.scaled_dot_product_attention(q, k, v, mask)\n",
      2);
  const at::Tensor x = at::randn({3, 5, 4});
  run(model, {x, at::ones({5, 5}, at::kBool).tril()});
  run(model, {x, at::randn({5, 5})});
}

}  // namespace
}  // namespace repquant
