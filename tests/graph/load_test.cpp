// What people's files contain: types, devices, state, randomness, assignments to slices, inputs of
// several tensors; and the spellings of products. Models are written as TorchScript text.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <filesystem>
#include <limits>

#include "graph/archive.h"
#include "graph/loaded_text.h"
#include "graph/products.h"
#include "graph/results.h"
#include "graph/rewrite.h"
#include "graph/site.h"
#include "graph/walker.h"
#include "repquant/error.h"

namespace repquant {
namespace {

using testing::count_kind;
using testing::LoadedText;

TEST_F(LoadedText, HalfWeightsBecomeFloat32) {
  for (const auto type : {at::kHalf, at::kBFloat16}) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({4, 8}).to(type));
    const Model model = load("def forward(self, x):\n    return torch.linear(x.to(" +
                             std::to_string(static_cast<int>(type)) + "), self.w).to(6)\n");
    const at::Tensor x = at::randn({3, 8});
    EXPECT_EQ(find_sites(model).sites.size(), 1U);
    EXPECT_FALSE(model.notes.empty());
    const at::Tensor expected = at::linear(x, module_.attr("w").toTensor().to(at::kFloat));
    const auto got = run_graph(*model.graph, Schedule(*model.graph), {x}).at(0).toTensor();
    EXPECT_TRUE(at::allclose(got, expected, 1e-5, 1e-6));
  }
}

TEST_F(LoadedText, DoubleModelTakesDoubleInputs) {
  parameter("w", at::randn({4, 8}, at::kDouble));
  const Model model = load("def forward(self, x):\n    return torch.linear(x, self.w)\n");
  run(model, {at::randn({3, 8}, at::kDouble)});
  EXPECT_EQ(find_sites(model).sites.size(), 1U);
}

TEST_F(LoadedText, DoubleArithmeticInAFloat32ModelStays) {
  parameter("w", at::randn({8, 8}));
  const Model model = load(
      "def forward(self, x):\n    y = (x.to(7) / 3.0).to(6)\n    return torch.linear(y, self.w)\n");
  EXPECT_TRUE(model.notes.empty());
  run(model, {at::randn({3, 8})});
}

TEST_F(LoadedText, CudaConstantsBecomeCpu) {
  parameter("w", at::randn({8, 8}));
  const Model model = load(
      "def forward(self, x):\n"
      "    return torch.linear(x, self.w) + torch.ones([8], device=torch.device(\"cuda:0\"))\n");
  ASSERT_EQ(model.notes.size(), 1U);
  EXPECT_NE(model.notes[0].find("cuda"), std::string::npos);
  const at::Tensor x = at::randn({3, 8});
  const auto got = run_graph(*model.graph, Schedule(*model.graph), {x}).at(0).toTensor();
  EXPECT_TRUE(at::allclose(got, at::linear(x, module_.attr("w").toTensor()) + 1));
}

TEST_F(LoadedText, DropoutInTrainingModeIsSwitchedOff) {
  parameter("w", at::randn({8, 8}));
  const Model model =
      load("def forward(self, x):\n    return torch.dropout(torch.linear(x, self.w), 0.5, True)\n");
  ASSERT_EQ(model.notes.size(), 1U);
  EXPECT_NE(model.notes[0].find("dropout"), std::string::npos);
  const at::Tensor x = at::randn({3, 8});
  const auto got = run_graph(*model.graph, Schedule(*model.graph), {x}).at(0).toTensor();
  EXPECT_TRUE(at::allclose(got, at::linear(x, module_.attr("w").toTensor())));
}

TEST_F(LoadedText, BatchNormInTrainingModeTakesItsStatistics) {
  parameter("mean", at::randn({4}));
  parameter("variance", at::rand({4}) + 0.5);
  const Model model = load(
      "def forward(self, x):\n"
      "    return torch.batch_norm(x, None, None, self.mean, self.variance, True, 0.1, 1e-5, "
      "False)\n");
  ASSERT_EQ(model.notes.size(), 1U);
  EXPECT_NE(model.notes[0].find("1 batch norm"), std::string::npos);
  const at::Tensor x = at::randn({3, 4, 2});
  const auto got = run_graph(*model.graph, Schedule(*model.graph), {x}).at(0).toTensor();
  const at::Tensor mean = module_.attr("mean").toTensor().view({4, 1});
  const at::Tensor variance = module_.attr("variance").toTensor().view({4, 1});
  EXPECT_TRUE(at::allclose(got, (x - mean) / (variance + 1e-5).sqrt(), 1e-4, 1e-5));
}

TEST_F(LoadedText, MessagesAreLeftOut) {
  parameter("w", at::randn({8, 8}));
  const Model model = load(
      "def forward(self, x):\n"
      "    print(\"rows\", x.size(0), \"of {}\".format(x.size(1)))\n"
      "    if x.size(0) > 2:\n"
      "        torch.warn(\"many\")\n"
      "    return torch.linear(x, self.w)\n");
  ASSERT_EQ(model.notes.size(), 1U);
  EXPECT_NE(model.notes[0].find("2 statements"), std::string::npos) << model.notes[0];
  run(model, {at::randn({3, 8})});
}

// A number of operands that no schema tells.
TEST_F(LoadedText, OperatorsOfAnyNumberOfOperands) {
  parameter("w", at::randn({8, 8}));
  const Model model = load(
      "def forward(self, x):\n"
      "    y = torch.linear(x, self.w)\n"
      "    if \"{} {}\".format(x.size(0), x.size(1)) == \"3 8\":\n"
      "        y = y * 2\n"
      "    return y\n");
  run(model, {at::randn({3, 8})});
  run(model, {at::randn({4, 8})});
}

TEST_F(LoadedText, RefusalsNameTheirReason) {
  parameter("w", at::randn({8, 8}));
  const std::string random =
      refusal("def forward(self, x):\n    return torch.linear(x + torch.rand_like(x), self.w)\n");
  EXPECT_NE(random.find("random"), std::string::npos) << random;
  EXPECT_NE(random.find("aten::rand_like"), std::string::npos) << random;

  module_ = torch::jit::Module("m");
  module_.register_buffer("past", at::zeros({8}));
  const std::string state =
      refusal("def forward(self, x):\n    y = x + self.past\n    self.past = x[0]\n    return y\n");
  EXPECT_NE(state.find("past"), std::string::npos) << state;

  module_ = torch::jit::Module("m");
  module_.register_buffer("past", at::zeros({8}));
  const std::string written =
      refusal("def forward(self, x):\n    self.past.add_(x[0])\n    return x + self.past\n");
  EXPECT_NE(written.find("past"), std::string::npos) << written;

  module_ = torch::jit::Module("m");
  const std::string quantized = refusal(
      "def forward(self, x):\n"
      "    return torch.dequantize(torch.quantize_per_tensor(x, 0.1, 0, 12))\n");
  EXPECT_NE(quantized.find("quantized already"), std::string::npos) << quantized;
}

TEST_F(LoadedText, PartsOfConstantsAreConstants) {
  parameter("w", at::randn({12, 8}));
  const Model model = load(
      "def forward(self, x):\n    a, b = torch.split(self.w, [4, 8])\n"
      "    return torch.cat([torch.linear(x, a), torch.linear(x, b)], -1)\n");
  const at::Tensor x = at::randn({3, 8});
  run(model, {x});
  const SiteSearch search = sites(model, {x});
  EXPECT_EQ(search.sites.size(), 2U);
  EXPECT_TRUE(search.skipped.empty());
  EXPECT_EQ(model.tensors.parameters, 96);
}

// nn.MultiheadAttention with k = v splits its weight by the width of q, which only the readers of q
// tell, and asks for the type of q before it takes its fast path.
TEST_F(LoadedText, WidthsThatReadersTellSplitConstants) {
  const std::vector<std::string> widths{"q.size(-1)", "torch.layer_norm(q, [8]).size(-1)",
                                        "(q + torch.linear(q, self.w[:8])).relu().size(-1)"};
  for (const auto& width : widths) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({24, 8}));
    const Model model =
        load("def forward(self, q, k):\n    e = " + width +
                 "\n    a, b = torch.split(self.w, [e, 2 * e])\n"
                 "    return torch.cat([torch.linear(q, a), torch.linear(k, b)], -1)\n",
             2);
    const std::vector<at::Tensor> inputs{at::randn({3, 8}), at::randn({3, 8})};
    run(model, inputs);
    const SiteSearch search = sites(model, inputs);
    EXPECT_GE(search.sites.size(), 2U) << width;
    EXPECT_TRUE(search.skipped.empty()) << width;
  }
}

TEST_F(LoadedText, AReaderThatMayNotRunTellsNoWidth) {
  parameter("w", at::randn({4, 8}));
  const Model model = load(
      "def forward(self, x):\n    if x.size(-1) == 8:\n        y = torch.linear(x, self.w)\n"
      "    else:\n        y = x + 1\n    return y\n");
  run(model, {at::randn({3, 8})});
  run(model, {at::randn({3, 6})});
}

TEST_F(LoadedText, WhatAFloat32WeightMultipliesIsFloat32) {
  parameter("w", at::randn({4, 8}));
  const Model model = load(
      "def forward(self, x):\n    if x.dtype != self.w.dtype:\n"
      "        y = torch.linear(x.transpose(0, 1).transpose(0, 1), self.w)\n"
      "    else:\n        y = torch.linear(x, self.w).relu()\n    return y\n");
  const at::Tensor x = at::randn({3, 8});
  run(model, {x});
  EXPECT_EQ(find_sites(model).sites.size(), 1U);
}

TEST_F(LoadedText, AssignmentsToSlices) {
  parameter("w", at::randn({8, 8}));
  const std::vector<std::string> bodies{
      "    y[:, 0] = y[:, 0] * 0.5\n",
      "    y[:, 1:] -= 0.1\n",
      "    y[:, 0] = 0.0\n",
      "    v = y[0]\n    y.add_(1.0)\n    y = y * v\n",
      "    v = y.transpose(0, 1)\n    v[2] = x[0, 0]\n    v.mul_(2.0)\n",
      "    v = y.view([-1])\n    v[3:5] = 7.0\n    a, b = torch.unbind(y[:2])\n    b.fill_(3.0)\n",
      "    y[x > 0.5] = -1.0\n",
  };
  for (std::size_t i = 0; i < bodies.size(); ++i) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({8, 8}));
    const Model model = load("def forward(self, x):\n    y = torch.linear(x, self.w)\n" +
                             bodies[i] + "    return torch.linear(y, self.w) + y.sum()\n");
    run(model, {at::randn({3, 8})});
    for (const auto* node : all_nodes(*model.graph)) {
      const std::string kind = node->kind().toQualString();
      EXPECT_FALSE(kind.ends_with("_")) << bodies[i] << kind;
    }
  }
}

TEST_F(LoadedText, InputsOfSeveralTensors) {
  const at::Tensor a = at::randn({3, 8}), b = at::randn({3, 8});
  parameter("w", at::randn({4, 8}));
  const Model tuple = load(
      "def forward(self, obs: Tuple[Tensor, Tensor]):\n"
      "    return torch.linear(obs[0] - obs[1], self.w)\n",
      2);
  EXPECT_EQ(tuple.input_names, (std::vector<std::string>{"obs.0", "obs.1"}));
  run(tuple, {a, b}, {c10::ivalue::Tuple::create({a, b})});

  module_ = torch::jit::Module("m");
  parameter("w", at::randn({4, 8}));
  const Model dict = load(
      "def forward(self, batch: Dict[str, Tensor], gain: float):\n"
      "    return torch.linear(batch[\"ids\"] - batch[\"mask\"], self.w) * gain\n",
      3);
  EXPECT_EQ(dict.input_names, (std::vector<std::string>{"batch.ids", "batch.mask", "gain"}));
  c10::Dict<std::string, at::Tensor> filled;
  filled.insert("ids", a);
  filled.insert("mask", b);
  run(dict, {a, b, at::full({3}, 2.0)}, {filled, 2.0});

  module_ = torch::jit::Module("m");
  parameter("w", at::randn({4, 8}));
  const Model list = load(
      "def forward(self, xs: List[Tensor]):\n"
      "    return torch.linear(xs[0] + xs[1], self.w)\n",
      2);
  EXPECT_EQ(list.input_names, (std::vector<std::string>{"xs.0", "xs.1"}));
  run(list, {a, b}, {c10::List<at::Tensor>({a, b})});
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

// What a value is may be known no sooner than the model runs.
TEST_F(LoadedText, AsksForATypeAtRunTime) {
  parameter("w", at::randn({4, 8}));
  const Model model = load(
      "def forward(self, x):\n"
      "    h : Optional[Tensor] = None\n"
      "    if bool((x > 0).any()):\n"
      "        h = x\n"
      "    y = torch.linear(x, self.w)\n"
      "    if isinstance(h, Tensor):\n"
      "        y = y * h.sum()\n"
      "    return y\n");
  run(model, {at::rand({3, 8})});
  run(model, {-at::rand({3, 8})});
}

TEST_F(LoadedText, TurnsOfAWhileLoopThatAreKnownAreUnrolled) {
  parameter("w", at::randn({4, 4}) * 0.3);
  const Model model = load(
      "def forward(self, x):\n"
      "    i = 0\n"
      "    y = x\n"
      "    while i < 3:\n"
      "        if i != 1:\n"
      "            y = torch.tanh(torch.linear(y, self.w))\n"
      "        i += 1\n"
      "    return y * i\n");
  const at::Tensor x = at::randn({2, 4});
  run(model, {x});
  const SiteSearch search = sites(model, {x});
  EXPECT_EQ(search.sites.size(), 2U);
  EXPECT_TRUE(search.skipped.empty());
}

TEST_F(LoadedText, TheFirstTurnOfALoopThatTheDataEndsIsUnrolled) {
  parameter("w", at::randn({4, 4}));
  const Model model = load(
      "def forward(self, x):\n"
      "    y = x\n"
      "    more = True\n"
      "    while more:\n"
      "        y = torch.linear(y, self.w) * 0.1\n"
      "        more = bool(y.abs().max() > 0.01)\n"
      "    return y\n");
  const at::Tensor x = at::randn({2, 4});
  run(model, {x});
  run(model, {100 * x});
  const SiteSearch search = sites(model, {x});
  EXPECT_EQ(search.sites.size(), 1U);
  ASSERT_EQ(search.skipped.size(), 1U);
  EXPECT_NE(search.skipped[0].reason.find("loop"), std::string::npos);
}

TEST_F(LoadedText, ManyTurnsStayALoop) {
  parameter("w", at::randn({4, 4}) * 0.3);
  const Model model = load(
      "def forward(self, x):\n"
      "    y = torch.linear(x, self.w)\n"
      "    i = 0\n"
      "    while i < 1000:\n"
      "        y = torch.tanh(y)\n"
      "        i += 1\n"
      "    return y\n");
  run(model, {at::randn({2, 4})});
  std::size_t nodes = 0;
  for (const auto* node : model.graph->nodes()) nodes += node->outputs().size();
  EXPECT_LT(nodes, 20U);
}

// Every turn of a loop multiplies.
TEST_F(LoadedText, ProductsInLoopsCountForEachTurn) {
  parameter("w", at::randn({4, 4}) * 0.3);
  const Model model = load(
      "def forward(self, x):\n"
      "    h = torch.linear(x, self.w)\n"
      "    for i in range(x.size(1)):\n"
      "        h = torch.tanh(torch.matmul(h, h.transpose(-2, -1)))\n"
      "    return h\n");
  const at::Tensor x = at::randn({2, 4, 4});
  run(model, {x});
  const SiteSearch search = sites(model, {x});
  ASSERT_EQ(search.skipped.size(), 1U);
  EXPECT_EQ(search.skipped[0].macs, 4 * 4 * 4 * 4);
  EXPECT_NE(search.skipped[0].reason.find("loop"), std::string::npos);
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

// nn.MultiheadAttention asks which of query, key and value are one object, and for the rank of what
// a branch gives.
TEST_F(LoadedText, QuestionsOfMultiheadAttention) {
  const std::vector<std::string> conditions{
      "x is y",
      "x is not y",
      "x.relu() is x.tanh()",
      "m.dim() == 3",
      "len(m.size()) == 3",
      "m.unsqueeze(0).size(0) == 1",
      "(x > 0).dim() == 3",
      "not torch.is_floating_point(x > 0)",
      "(x > 0).dtype == 11",
      "torch.is_floating_point(torch.full([3, 3], -1.0).triu(1))",
      "torch.zeros_like(x, dtype=6).dtype == 6"};
  for (const auto& condition : conditions) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({4, 8}));
    const Model model = load(
        "def forward(self, x, y):\n    if bool(y.sum() > 0):\n        m = x.relu()\n"
        "    else:\n        m = x + y\n    if " +
            condition +
            ":\n        z = torch.linear(x, self.w)\n"
            "    else:\n        z = torch.linear(y, self.w).relu()\n    return z + m.sum()\n",
        2, 3);
    run(model, {at::randn({2, 3, 8}), at::randn({2, 3, 8})});
    EXPECT_EQ(find_sites(model).sites.size(), 1U) << condition;
  }
}

// A scripted decoder looks whether the mask is the causal one; without the hint it adds the mask.
TEST_F(LoadedText, ACausalMaskNeedsNoHint) {
  parameter("w", at::randn({12, 4}));
  const Model model = load(
      "def forward(self, x):\n    q, k, v = torch.linear(x, self.w).chunk(3, -1)\n"
      "    n = x.size(1)\n    given = torch.full([n, n], float('-inf')).triu(1)\n"
      "    causal = torch.full([n, n], float('-inf')).triu(1)\n"
      "    hint = bool((given * 1.0 == causal).all())\n"
      "    mask: Optional[Tensor] = None\n    if not hint:\n        mask = given\n"
      "    return torch.scaled_dot_product_attention(q, k, v, mask, 0.0, hint)\n",
      1, 3);
  expect_attention(model, at::randn({3, 5, 4}), "causal");
  for (const auto* node : model.graph->nodes()) EXPECT_NE(node->kind(), c10::prim::If);
}

TEST_F(LoadedText, AnOperandThatMayComeBackAsItIsLeavesTheQuestionOpen) {
  parameter("w", at::randn({4, 8}));
  const Model model = load(
      "def forward(self, x):\n    y = x.contiguous()\n    if x is y:\n        y = y + 1\n"
      "    return torch.linear(y, self.w)\n");
  run(model, {at::randn({3, 8})});
  run(model, {at::randn({8, 3}).t()});
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
    at::Tensor mask = at::zeros({5, 5});
    mask[1].fill_(-std::numeric_limits<float>::infinity());
    parameter("mask", mask);
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
  at::Tensor mask = at::zeros({5, 5});
  mask[1].fill_(-std::numeric_limits<float>::infinity());
  parameter("mask", mask);
  const Model model = load(
      "def forward(self, x):\n    q, k, v = torch.linear(x, self.w).chunk(3, -1)\n"
      "    w = torch.softmax(q @ k.transpose(-2, -1) + self.mask, -1)\n"
      "    return torch.nan_to_num(w.transpose(-2, -1)) @ v\n",
      1, 3);
  run(model, {at::randn({3, 5, 4})});
}

TEST_F(LoadedText, RecurrentLayersAreGapsWithTheirParameters) {
  parameter("w_ih", at::randn({12, 8}));
  parameter("w_hh", at::randn({12, 4}));
  parameter("head", at::randn({2, 4}));
  const Model model = load(
      "def forward(self, x):\n"
      "    h = torch.zeros([1, x.size(0), 4])\n"
      "    y, h = torch.gru(x, h, [self.w_ih, self.w_hh], False, 1, 0.0, False, False, True)\n"
      "    return torch.linear(y, self.head)\n");
  const at::Tensor x = at::randn({3, 5, 8});
  run(model, {x});
  const SiteSearch search = sites(model, {x});
  ASSERT_EQ(search.skipped.size(), 1U);
  EXPECT_EQ(search.skipped[0].op, "aten::gru");
  EXPECT_EQ(search.skipped[0].parameters, 12 * 12);
  EXPECT_EQ(search.skipped[0].macs, 5 * 12 * 12);
  EXPECT_EQ(model.tensors.parameters, 12 * 12 + 8);
}

TEST_F(LoadedText, ParametersThatForwardNeverReads) {
  parameter("w", at::randn({4, 8}));
  parameter("extra", at::randn({10, 8}));
  const Model model = load("def forward(self, x):\n    return torch.linear(x, self.w)\n");
  EXPECT_EQ(model.tensors.parameters, 32 + 80);
  EXPECT_EQ(model.tensors.unread, 80);
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

TEST_F(LoadedText, WhatContinuesAnInputIsNoResult) {
  parameter("w", at::randn({4, 4}));
  const Model model = load(
      "def forward(self, x, past: List[Tensor]):\n    k = torch.cat([past[0], x], 1)\n"
      "    y = torch.linear(k, self.w)\n    z = torch.cat([y, past[1]], 1)\n"
      "    return y, [k, z]\n",
      3);
  const std::vector<at::Tensor> inputs{at::randn({2, 3, 4}), at::randn({2, 5, 4}),
                                       at::randn({2, 1, 4})};
  const auto outputs = run_graph(*model.graph, Schedule(*model.graph), copies_of(inputs));
  EXPECT_EQ(output_tensors(outputs).size(), 3U);
  const auto results = result_tensors(*model.graph, outputs);
  ASSERT_EQ(results.size(), 2U);  // y, and z: what it begins with is computed
  EXPECT_TRUE(at::equal(results[0], output_tensors(outputs)[0]));
  EXPECT_TRUE(at::equal(results[1], output_tensors(outputs)[2]));
}

}  // namespace
}  // namespace repquant
