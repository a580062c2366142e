// Products of two activations in every place that they have in real models: which are sites, of
// which kind, and why the others are none.
#include "graph/loaded_text.h"

namespace repquant {
namespace {

using testing::count_kind;
using testing::LoadedText;

struct Expected {
  const char* body;  // from q, k, v [B, N, 4] and x [B, N, 4]
  int scores, attends, products;
};

TEST_F(LoadedText, ProductsOfTwoActivations) {
  const std::vector<Expected> cases{
      {"return q @ (k.relu().transpose(-2, -1) @ v)", 0, 0, 2},
      {"return (q @ k.transpose(-2, -1) * self.decay) @ v", 0, 0, 2},
      {"return torch.einsum(\"bnd,bne->bde\", k, v)", 0, 0, 1},
      {"return torch.mm(q[0], k[0].t())", 0, 0, 1},
      // Three operands are two products; what sums nothing is none; a sum in one operand alone.
      {"return torch.einsum(\"bid,bjd,bje->bie\", [q, k, v])", 0, 0, 2},
      {"return torch.einsum(\"bi,bij,bj->b\", [q[..., 0], q @ k.mT, v[..., 0]])", 0, 0, 3},
      {"return torch.einsum(\"...id,...jd,...je->...ie\", [q, k, v])", 0, 0, 2},
      {"return torch.einsum(\"bid,bid,bie->bide\", [q, k, v])", 0, 0, 0},
      {"return torch.einsum(\"bid,bje->bd\", [q, k])", 0, 0, 0},
      {"return torch.einsum(\"bid,bjd->bi\", [q, k])", 0, 0, 1},
      {"return torch.einsum(\"bid,bjd,bje->bie\", [q, k, v], path=[1, 2, 0, 1])", 0, 0, 2},
      {"return torch.einsum(\"bhd,shd->bhs\", [q[:, :1], k])", 0, 0, 1},
      {"return q @ k.sum([0, 1])", 0, 0, 1},
      {"return torch.tensordot(q[0], k[1], [0], [0])", 0, 0, 1},
      {"return torch.chain_matmul([q[0], k[0].t(), v[0]])", 0, 0, 2},
      {"return torch.addmm(self.decay, q[0], k[0].t(), beta=2, alpha=0.5)", 0, 0, 1},
      {"return torch.linear(q, k[0], None)", 0, 0, 1},
      // A softmax that is not over what its product sums over.
      {"return torch.softmax(q @ k.transpose(-2, -1), -1).transpose(-2, -1) @ v", 1, 0, 1},
      // Something between softmax and product.
      {"return torch.softmax(q @ k.transpose(-2, -1), -1).relu() @ v", 0, 0, 2},
      // The attention is an output, too; scores of two softmaxes; a pooling, without scores.
      {"a = torch.softmax(q @ k.transpose(-2, -1), -1)\n    return a @ v + a.sum(-1, True)", 1, 1,
       0},
      {"s = q @ k.transpose(-2, -1)\n"
       "    return torch.softmax(s, -1) @ v + torch.softmax(s.transpose(-2, -1), -1) @ q",
       1, 2, 0},
      {"return torch.softmax(q.transpose(-2, -1), -1) @ v", 0, 1, 0},
      // Relative positions, for each of the samples.
      {"return q @ self.decay.unsqueeze(0).repeat([x.size(0), 1, 1])[:, :4] + k @ v.mT", 0, 0, 2},
  };
  for (const auto& expected : cases) {
    SCOPED_TRACE(expected.body);
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({12, 4}));
    parameter("decay", at::rand({5, 5}));
    const Model model =
        load(std::string("def forward(self, x):\n"
                         "    q, k, v = torch.linear(x, self.w).chunk(3, -1)\n    ") +
                 expected.body + "\n",
             1, 3);
    const at::Tensor x = at::randn({3, 5, 4});
    run(model, {x});
    const SiteSearch search = sites(model, {x});
    EXPECT_EQ(count_kind(search, SiteKind::kScores), expected.scores);
    EXPECT_EQ(count_kind(search, SiteKind::kAttend), expected.attends);
    EXPECT_EQ(count_kind(search, SiteKind::kProduct), expected.products);
    EXPECT_TRUE(search.skipped.empty());
    for (const Site& site : search.sites) EXPECT_GT(site.macs, 0) << site.path;
  }
}

TEST_F(LoadedText, ProductsThatStayExact) {
  struct Gap {
    const char* body;
    const char* reason;  // empty: nothing to say, it depends on no input
  };
  const std::vector<Gap> cases{
      {"p = torch.arange(x.size(1)).unsqueeze(-1) * 1.0\n    return y * (p @ torch.ones([1, 4]))",
       ""},
      {"return y * (x.transpose(-2, -1) @ x).sum()",
       "a product of values that no quantized operator gives"},
      {"return y @ x.transpose(-2, -1)", "an operand that no quantized operator gives"},
      {"return x.gather(1, torch.topk(y @ y.transpose(-2, -1), 4)[1])",
       "it only decides which elements are taken"},
  };
  for (const auto& gap : cases) {
    SCOPED_TRACE(gap.body);
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({4, 4}));
    const Model model =
        load(std::string("def forward(self, x):\n    y = torch.linear(x, self.w)\n    ") +
                 gap.body + "\n",
             1, 3);
    const at::Tensor x = at::randn({3, 5, 4});
    run(model, {x});
    const SiteSearch search = sites(model, {x});
    EXPECT_EQ(count_kind(search, SiteKind::kProduct), 0);
    ASSERT_EQ(search.skipped.size(), *gap.reason == '\0' ? 0U : 1U);
    if (*gap.reason != '\0') {
      EXPECT_EQ(search.skipped[0].reason, gap.reason);
    }
  }
}

// An axis of another size at another length is no axis of heads.
TEST_F(LoadedText, HeadsAreTheSameAtEveryLength) {
  parameter("w", at::randn({12, 4}));
  const Model model = load(
      "def forward(self, x):\n    q, k, v = torch.linear(x, self.w).chunk(3, -1)\n"
      "    return q.unsqueeze(-1) @ v.unsqueeze(-2)\n",
      1, 3);
  const SiteSearch search = sites(model, {at::randn({3, 5, 4})});
  ASSERT_EQ(search.sites.size(), 2U);
  EXPECT_FALSE(std::get<ScoresSite>(search.sites[1].kind).heads);
}

// Attention between channels sums over tokens, and the columns of its V are the tokens.
TEST_F(LoadedText, ColumnsAreTheSameAtEverySize) {
  for (const bool channels : {false, true}) {
    module_ = torch::jit::Module("m");
    parameter("w", at::randn({12, 3}));
    const Model model =
        load(std::string("def forward(self, x):\n"
                         "    y = torch.linear(x.flatten(2).transpose(1, 2), self.w)\n"
                         "    q, k, v = y") +
             (channels ? ".transpose(1, 2).chunk(3, 1)\n" : ".chunk(3, -1)\n") +
             "    return torch.softmax(q @ k.transpose(-2, -1), -1) @ v\n");
    const SiteSearch search = sites(model, {at::randn({3, 3, 64, 64})});
    ASSERT_EQ(search.sites.size(), 3U);
    EXPECT_EQ(std::get<ScoresSite>(search.sites[1].kind).channels, !channels);
    EXPECT_EQ(std::get<AttendSite>(search.sites[2].kind).columns, !channels);
  }
}

// A row of a table of kinds is added to every token: it stays as it is, and is no gap.
TEST_F(LoadedText, TablesOfKindsStayInFloat) {
  for (const int rows : {2, 4, 5}) {
    for (const bool tied : {false, true}) {
      SCOPED_TRACE(std::to_string(rows) + (tied ? ", tied" : ""));
      module_ = torch::jit::Module("m");
      parameter("table", at::randn({rows, 8}));
      parameter("w", at::randn({tied ? 8 : 4, 8}));
      const Model model = load(std::string("def forward(self, ids):\n"
                                           "    y = torch.linear(torch.embedding(self.table, ids), "
                                           "self.w)\n    return ") +
                                   (tied ? "torch.linear(y, self.table)" : "y") + "\n",
                               1, 2);
      const SiteSearch search = sites(model, {at::zeros({3, 5}, at::kLong)});
      EXPECT_EQ(count_kind(search, SiteKind::kEmbedding), rows > 4 || tied ? 1 : 0);
      EXPECT_TRUE(search.skipped.empty());
    }
  }
}

}  // namespace
}  // namespace repquant
