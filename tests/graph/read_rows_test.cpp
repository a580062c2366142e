// Rows that no output depends on are not computed. Models are written as TorchScript text.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <numeric>

#include "graph/loaded_text.h"
#include "graph/observe.h"

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

  Model load(const std::string& code) {
    module_ = module_.copy();  // each with a forward of its own
    torch::jit::Module fresh("m");
    for (const auto& one : module_.named_parameters(/*recurse=*/false)) {
      fresh.register_parameter(one.name, one.value, false);
    }
    module_ = fresh;
    return LoadedText::load(code, 1, 3, true);
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

TEST_F(ReadRows, OfDeepModelsAreFound) {
  std::string body;
  for (int i = 0; i < 60; ++i) {
    body += "    x = x + torch.linear(torch.gelu(torch.layer_norm(x, [8])), self.w)\n";
  }
  EXPECT_EQ(macs(body + "    return torch.layer_norm(x, [8])[:, 0]\n"), linear_of(60));
}

}  // namespace
}  // namespace repquant
