// Branches, loops and questions that a graph asks while it runs. Models are written as TorchScript
// text.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include "graph/loaded_text.h"
#include "graph/rewrite.h"
#include "graph/site.h"

namespace repquant {
namespace {

using testing::LoadedText;

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

// A fork computes its values where it stands, and nothing waits for them.
TEST_F(LoadedText, ForksAreCalls) {
  parameter("w", at::randn({4, 4}));
  define(
      "def part(self, x):\n"
      "    return torch.tanh(torch.linear(x, self.w))\n"
      "def parts(self, x):\n"
      "    return torch.wait(fork(self.part, x)) + 1\n");
  const Model model = load(
      "def forward(self, x):\n"
      "    left = fork(self.parts, x)\n"
      "    right = self.part(-x)\n"
      "    return torch.wait(left) * right\n");
  const at::Tensor x = at::randn({2, 4});
  run(model, {x});
  EXPECT_EQ(sites(model, {x}).sites.size(), 2U);
}

TEST_F(LoadedText, FuturesLieInListsAndBranches) {
  parameter("w", at::randn({4, 4}));
  define(
      "def part(self, x):\n"
      "    return torch.linear(x, self.w)\n");
  const Model model = load(
      "def forward(self, x):\n"
      "    futures = [fork(self.part, x), fork(self.part, -x)]\n"
      "    futures.append(fork(self.part, torch.tanh(x)))\n"
      "    y = x\n"
      "    for future in futures:\n"
      "        y = y * torch.wait(future)\n"
      "    last = futures[0]\n"
      "    if bool((x > 0).any()):\n"
      "        last = futures[1]\n"
      "        y = y + torch.wait(last)\n"
      "    return y * torch.wait(last)\n");
  const at::Tensor x = at::rand({2, 4});
  run(model, {x});
  run(model, {-x});
  EXPECT_EQ(sites(model, {x}).sites.size(), 3U);
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

// A mask's type decides between branches where nn.MultiheadAttention is scripted.
TEST_F(LoadedText, TypesOfInputsAreThoseOfTheData) {
  for (const auto type : {at::kBool, at::kLong}) {
    const std::string number = std::to_string(static_cast<int>(type));
    for (const std::string& condition :
         {"x.dtype == " + number, "x[:, None].dtype == " + number,
          std::string("not torch.is_floating_point(x.transpose(0, 1))")}) {
      module_ = torch::jit::Module("m");
      parameter("w", at::randn({4, 8}));
      const Model model =
          load("def forward(self, x):\n    h = x.to(6)\n    if " + condition +
                   ":\n        z = torch.linear(h, self.w)\n"
                   "    else:\n        z = torch.linear(h.relu(), self.w).tanh()\n    return z\n",
               1, 3, type);
      run(model, {at::randint(0, 2, {2, 3, 8}).to(type)});
      EXPECT_EQ(find_sites(model).sites.size(), 1U) << condition;
    }
  }
}

// A Linear in a branch that is not taken tells nothing of the input.
TEST_F(LoadedText, InputsAreIdsOrWhatIsLookedUp) {
  for (const std::string question :
       {"torch.is_floating_point(x)", "x.dtype == 6", "x.dtype != 4"}) {
    for (const auto type : {at::kLong, at::kFloat}) {
      module_ = torch::jit::Module("m");
      parameter("table", at::randn({10, 8}));
      parameter("w", at::randn({8, 8}));
      const Model model = load("def forward(self, x):\n    if " + question +
                                   ":\n        h = torch.linear(x, self.w)\n    else:\n"
                                   "        h = torch.embedding(self.table, x)\n"
                                   "    return torch.linear(h, self.w)\n",
                               1, 2, type);
      run(model, {at::randint(0, 10, {3, 8}).to(type)});
      for (const auto* node : model.graph->nodes()) EXPECT_NE(node->kind(), c10::prim::If);
    }
  }
}

// What loops start from may be an empty vector.
TEST_F(LoadedText, TheRankOfJoinedTensorsIsThatOfThoseThatAreNotEmpty) {
  parameter("w", at::randn({4, 4}));
  const Model model = load(
      "def forward(self, x):\n    y = torch.zeros([0])\n    for i in range(2):\n"
      "        y = torch.cat([y, torch.linear(x, self.w)], -1)\n"
      "    a = torch.softmax(torch.matmul(y, y.transpose(1, 2)), 1)\n"
      "    return torch.matmul(a.transpose(1, 2), y)[:, 0]\n",
      1, 3);
  run(model, {at::randn({3, 5, 4})});
  for (const auto* node : model.graph->nodes()) {
    EXPECT_TRUE(!is_kind(node, "aten::softmax") || constant_int(node->input(1)) == -1);
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

}  // namespace
}  // namespace repquant
