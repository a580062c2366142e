// Rows that no output depends on are not computed. Models are written as TorchScript text.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <iterator>
#include <numeric>
#include <random>
#include <string>

#include "graph/loaded_text.h"
#include "graph/observe.h"
#include "graph/read_rows.h"
#include "graph/rewrite.h"

namespace repquant {
namespace {

using testing::LoadedText;

constexpr std::int64_t kBatch = 3, kTokens = 7, kWidth = 8;

class ReadRows : public LoadedText {
 protected:
  ReadRows() {
    for (const char* name : {"w", "q", "k", "v", "o"}) {
      parameter(name, at::randn({kWidth, kWidth}));
    }
    parameter("qkv", at::randn({3 * kWidth, kWidth}));
    parameter("first", at::randn({1, 1, kWidth}));
    parameter("places", at::randn({1, kTokens, kWidth}));
    parameter("place", at::randn({1, 1, kWidth}));
  }

  /// Multiply-accumulates of all products. The outputs must be those of the module, for another
  /// batch size and another number of tokens as well.
  std::int64_t macs(const std::string& body, bool any_length = true) {
    const Model model = load("def forward(self, x):\n" + body);
    run(model, {at::randn({1, kTokens, kWidth})});
    if (any_length) run(model, {at::randn({2, kTokens + 2, kWidth})});
    const at::Tensor x = at::randn({kBatch, kTokens, kWidth});
    run(model, {x});
    const auto observed = observe(model, {x}).observed;
    return std::accumulate(observed.macs.begin(), observed.macs.end(), std::int64_t{0},
                           [](std::int64_t sum, const auto& one) { return sum + one.second; });
  }

  /// True if an operator whose operand no program cuts reads a part of one.
  static bool cuts_rows(const Model& model) {
    const auto nodes = all_nodes(*model.graph);
    return std::any_of(nodes.begin(), nodes.end(), [](const torch::jit::Node* node) {
      const bool whole = is_kind(node, "aten::linear") || is_kind(node, "aten::gelu") ||
                         is_kind(node, "aten::layer_norm") || is_kind(node, "aten::softmax");
      return whole && is_kind(node->input(0)->node(), "aten::slice");
    });
  }

  Model load(const std::string& code) {
    module_ = module_.copy();  // each with a forward of its own
    torch::jit::Module fresh("m");
    for (const auto& one : module_.named_parameters(/*recurse=*/false)) {
      fresh.register_parameter(one.name, one.value, false);
    }
    module_ = fresh;
    Model model = LoadedText::load(code, 1, 3, at::kFloat);
    compute_only_read_rows(model, observe(model, {at::randn({2, kTokens, kWidth})}).observed);
    return model;
  }
};

/// A Linear of so many rows of each sample.
std::int64_t linear_of(std::int64_t rows) { return kBatch * rows * kWidth * kWidth; }

TEST_F(ReadRows, OfALinearBetweenOperatorsOnRows) {
  const std::string y =
      "    h = torch.gelu(torch.linear(x, self.w)) + x * self.place\n"
      "    y = torch.layer_norm(h + self.places, [8])\n";
  const std::string any = "    y = torch.layer_norm(torch.linear(x, self.w) * 2.0 + x, [8])\n";
  const struct {
    const char* read;
    std::int64_t rows;
  } cases[] = {
      {"y[:, 0]", 1},
      {"y[:, 2]", 3},
      {"y[:, -1]", 1},
      {"y[:, :1]", 1},
      {"y[:, -2:]", 2},
      {"y[:, -3:-1]", 3},
      {"y[:, 0, :4]", 1},
      {"y[:, 0].unsqueeze(1) + y[:, 1:3]", 3},
      {"torch.cat([y[:, 0], y[:, 1]], 1)", 2},
      {"y[:, 0] * float(y.size(1))", 1},
      {"y[:, 0] * float(y.size(0) + y.size(-1) + y.dim())", 1},
      {"y.transpose(1, 2)[:, :, 0]", kTokens},  // a view of all of it
      {"y[:, 0] + y.mean(1)", kTokens},
      {"y[:, 0] + y[:, -1]", kTokens},
      {"y[:, 1:]", kTokens},
      {"y[:, ::2]", kTokens},
      {"y[:, :-1]", kTokens},
      {"y[:, :, 0]", kTokens},
      {"y[0] + y[:, 0].sum()", kTokens},
      {"y[0]", kTokens},  // samples are looked at one by one
      {"torch.clamp(y, None, x)[:, 0]", kTokens},
      {"torch.clamp(y, -1., 1.)[:, 0]", 1},
      {"y.sum(0).masked_fill(x.ge(0.), 2.)[:, 0]", kTokens},
      {"torch.relu(y.transpose(0, 1))[0]", 1},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.read);
    const std::string end = std::string("    return ") + c.read + "\n";
    EXPECT_EQ(macs(y + end, false), linear_of(c.rows));
    EXPECT_EQ(macs(any + end), linear_of(c.rows));
  }
}

TEST_F(ReadRows, OfAnOutputThatIsAlsoReturned) {
  EXPECT_EQ(macs("    y = torch.relu(torch.linear(x, self.w))\n"
                 "    return y * y[:, 0].unsqueeze(1)\n"),
            linear_of(kTokens));
}

/// Two heads, as traced and as written models have them.
const char* const kHeads[] = {
    "    b = x.size(0)\n"
    "    n = x.size(1)\n"
    "    s = torch.linear(x, self.qkv).reshape([b, n, 3, 2, 4]).permute([2, 0, 3, 1, 4])\n"
    "    q, k, v = s.unbind(0)\n",
    "    b, n, c = x.size()\n"
    "    s = torch.linear(x, self.qkv).view([b, n, 3, 2, 4]).permute([2, 0, 3, 1, 4])\n"
    "    q, k, v = s[0], s[1], s[2]\n",
    "    q = torch.linear(x, self.q).view([x.size(0), -1, 2, 4]).transpose(1, 2)\n"
    "    k = torch.linear(x, self.k).view([x.size(0), -1, 2, 4]).transpose(1, 2)\n"
    "    v = torch.linear(x, self.v).view([x.size(0), -1, 2, 4]).transpose(1, 2)\n",
};
const char* const kWeights[] = {
    "    a = torch.matmul(torch.softmax(torch.matmul(q * 0.5, k.transpose(-2, -1)), -1), v)\n",
    "    a = torch.scaled_dot_product_attention(q, k, v)\n",
    "    a = torch.scaled_dot_product_attention(q, k, v, None, 0.0, True)\n",
    "    m = x[:, :, 0].ge(0.).unsqueeze(1).unsqueeze(1)\n"
    "    a = torch.scaled_dot_product_attention(q, k, v, m)\n",
};
const char* const kMerges[] = {
    "    a = a.transpose(1, 2).reshape([x.size(0), x.size(1), 8])\n",
    "    a = a.transpose(1, 2).reshape([x.size(0), -1, 8])\n",
    "    a = a.permute([0, 2, 1, 3]).contiguous().view([x.size(0), x.size(1), 8])\n",
    "    a = a.permute([0, 2, 1, 3]).flatten(2)\n",
};

TEST_F(ReadRows, OfAttentionAreThoseOfItsQueries) {
  for (const char* const heads : kHeads) {
    for (const char* const weights : kWeights) {
      for (const char* const merge : kMerges) {
        for (const char* const read : {"y[:, 0]", "y[:, -1]"}) {
          SCOPED_TRACE(std::string(heads) + weights + merge + read);
          const std::int64_t got =
              macs(std::string(heads) + weights + merge +
                   "    y = torch.layer_norm(x + torch.linear(a, self.o), [8])\n    return " +
                   read + "\n");
          // Where queries have a Linear of their own, that is of one row as well.
          const std::int64_t queries = heads == kHeads[2] ? 1 : kTokens;
          EXPECT_EQ(got, linear_of(queries + 2 * kTokens + 1) + 2 * kBatch * kTokens * kWidth);
        }
      }
    }
  }
}

TEST_F(ReadRows, OfACopyLeaveTheModelAlone) {
  const Model whole = LoadedText::load(
      std::string("def forward(self, x):\n") + kHeads[0] + kWeights[0] + kMerges[0] +
          "    y = torch.layer_norm(x + torch.linear(a, self.o), [8])\n    return y[:, 0]\n",
      1, 3, at::kFloat);
  const at::Tensor x = at::randn({kBatch, kTokens, kWidth});
  const SiteSearch search = sites(whole, {x});
  const std::string before = whole.graph->toString();
  Model copy = whole;
  std::vector<Site> moved = search.sites;
  own_graph(copy, moved);
  compute_only_read_rows(copy, observe(copy, {x}).observed);
  EXPECT_EQ(whole.graph->toString(), before);
  ASSERT_EQ(moved.size(), 4U);
  for (std::size_t i = 0; i < moved.size(); ++i) {
    EXPECT_EQ(search.sites[i].node->owningGraph(), whole.graph.get());
    EXPECT_EQ(moved[i].node->owningGraph(), copy.graph.get());
    EXPECT_EQ(moved[i].node->kind(), search.sites[i].node->kind());
    if (const auto* attend = std::get_if<AttendSite>(&moved[i].kind)) {
      EXPECT_EQ(attend->softmax->owningGraph(), copy.graph.get());
    }
  }
  EXPECT_TRUE(at::allclose(run(copy, {x}), run(whole, {x}), 1e-5, 1e-6));
}

TEST_F(ReadRows, OfPartsOfALinear) {
  const std::string gated =
      "    g, u, o = torch.chunk(torch.linear(x, self.qkv), 3, -1)\n"
      "    y = torch.linear(torch.silu(g) * u, self.o)\n";
  EXPECT_EQ(macs(gated + "    return (y + o)[:, 0]\n"), linear_of(3 + 1));
  EXPECT_EQ(macs(gated + "    return (y + x)[:, -1] + torch.relu(o)[:, -2]\n"), linear_of(6 + 1));
  EXPECT_EQ(macs(gated + "    return (y + x)[:, 0] + torch.relu(o)[:, -1]\n"),
            linear_of(3 * kTokens + 1));
  EXPECT_EQ(macs(gated + "    return (y + x)[:, 0] + o.mean(1)\n"), linear_of(3 * kTokens + 1));
  EXPECT_EQ(macs("    a, b, c = torch.linear(x, self.qkv).view([x.size(0), -1, 3, 8]).unbind(2)\n"
                 "    return (torch.relu(a) * b + c.type_as(x))[:, 0]\n"),
            linear_of(3));
}

TEST_F(ReadRows, AreAllWhereAReshapeMixesThem) {
  EXPECT_EQ(macs("    y = torch.linear(x, self.w).reshape([x.size(0), -1, 4])\n"
                 "    return torch.relu(y)[:, 0]\n"),
            linear_of(kTokens));
  EXPECT_EQ(macs("    y = torch.linear(x, self.w).reshape([x.size(1), x.size(0), 8])\n"
                 "    return torch.relu(y)[:, 0]\n"),
            linear_of(kTokens));
}

TEST_F(ReadRows, OfASoftmaxOverTokensAreAll) {
  EXPECT_EQ(macs("    return torch.softmax(torch.linear(x, self.w), 1)[:, 0]\n"),
            linear_of(kTokens));
}

/// A program of operators on [B, T, 8] drawn at random, which ends with reads of some rows.
std::string random_program(std::mt19937& engine) {
  int values = 1;  // v0 .. of [B, T, 8]
  std::string body = "    v0 = x\n";
  const auto below = [&](int n) { return static_cast<int>(engine() % static_cast<unsigned>(n)); };
  const auto any = [&] { return "v" + std::to_string(below(values)); };
  const auto add = [&](const std::string& value) {
    body += "    v" + std::to_string(values) + " = " + value + "\n";
    ++values;
  };
  for (int i = 0; i < 8; ++i) {
    const std::string a = any(), b = any(), c = any();
    const std::string shape = "[" + c + ".size(0), " + b + ".size(1), ";
    const std::string cases[] = {
        "torch.linear(" + a + ", self.w)",
        "torch.gelu(" + a + ")",
        "torch.layer_norm(" + a + ", [8])",
        "torch.softmax(" + a + ", " + std::to_string(below(3)) + ")",
        a + " + " + b,
        a + " * " + b + "[:, :1]",
        a + " - " + b + "[:, -1:]",
        a + " + self.first",
        a + ".masked_fill(" + b + ".ge(0.5), 0.25)",
        "torch.where(" + a + "[:, :, :1].ge(0.), " + b + ", self.place)",
        "torch.matmul(torch.softmax(torch.matmul(" + a + ", " + b + ".mT), -1), " + c + ")",
        a + ".transpose(1, 2).contiguous().transpose(1, 2)",
        "torch.relu(" + a + ".reshape(" + shape + "2, 4]).transpose(1, 2)).transpose(1, 2)" +
            ".reshape(" + shape + "-1])",
        a + ".flatten(1).tanh().reshape(" + shape + "8])",
        a + " * float(" + b + ".size(1))",
        "torch.cat(torch.chunk(torch.linear(" + a + ", self.qkv), 3, -1)[1:], -1)[:, :, 4:12]",
        a + "[:, :4].sum(1).unsqueeze(1) + " + b,
    };
    add(cases[below(static_cast<int>(std::size(cases)))]);
  }
  const std::string last = "v" + std::to_string(values - 1), other = any();
  const std::string reads[] = {
      last + "[:, 0]",
      last + "[:, -2]",
      last + "[:, 1:3].sum(1)",
      last + "[:, -5:-1].sum(1)",
      last + "[:, :5].sum(1) + " + last + "[:, 1]",
      last + "[:, 0] + " + other + "[:, 1]",
      last + "[:, -1] + " + other + "[:, -2:].sum(1)",
      last + "[:, 0] + " + other + "[:, -1] * " + last + "[:, 2]",
  };
  return body + "    return " + reads[below(static_cast<int>(std::size(reads)))] + "\n";
}

TEST_F(ReadRows, OfRandomProgramsAreTheSame) {
  int fewer = 0;
  for (unsigned seed = 0; seed < 150; ++seed) {
    std::mt19937 engine(seed);
    const std::string body = random_program(engine);
    SCOPED_TRACE(body);
    const Model model = load("def forward(self, x):\n" + body);
    for (const std::int64_t tokens : {3, 4, 7, 9}) run(model, {at::randn({2, tokens, kWidth})});
    run(model, {at::randn({1, 3, kWidth})});
    fewer += cuts_rows(model) ? 1 : 0;
  }
  EXPECT_GT(fewer, 30);
}

TEST_F(ReadRows, OfDeepModelsAreFound) {
  std::string body;
  for (int i = 0; i < 60; ++i) {
    body += "    x = x + torch.linear(torch.gelu(torch.layer_norm(x, [8])), self.w)\n";
  }
  EXPECT_EQ(macs(body + "    return torch.layer_norm(x, [8])[:, 0]\n"), linear_of(60));
}

}  // namespace
}  // namespace repquant
