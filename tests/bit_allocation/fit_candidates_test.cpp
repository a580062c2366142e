#include "bit_allocation/fit_candidates.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/ir.h>

#include <map>
#include <string>

#include "fit/streams.h"
#include "plan/simulate.h"
#include "recipe/json.h"
#include "support/scripted.h"

namespace repquant {
namespace {

using testing::add_linear;
using testing::normal_batches;
using testing::Prepared;

const Candidates kFittedCandidates{.weight_bits = {8}, .activation_bits = {8}};

std::vector<SiteCandidates> candidates_for(const Prepared& model, const Recipe& recipe) {
  const Choices choices = find_choices(model.search.sites, recipe, kFittedCandidates);
  return fit_candidates(model.model, model.search.sites, model.batches, recipe, choices, {});
}

// q, k and v are Linears of each head: what tokens count is known head by head, and grids of heads
// are fitted token by token.
TEST(FitCandidates, LinearsInsideOfHeadsHaveTheirRowsInAnotherOrder) {
  std::map<std::string, at::Tensor> constants;
  for (const char* name : {"q", "k", "v"}) add_linear(constants, name, 8, 8, 1);
  add_linear(constants, "o", 4, 16, 2);
  const Prepared model = testing::scripted(
      "  h = x.reshape(x.size(0), -1, 2, 8).transpose(1, 2)\n"
      "  q = torch.linear(h, self.wq, self.bq)\n"
      "  k = torch.linear(h, self.wk, self.bk)\n"
      "  v = torch.linear(h, self.wv, self.bv)\n"
      "  a = torch.softmax(torch.matmul(q, k.transpose(-2, -1)) * 0.35, -1)\n"
      "  y = torch.matmul(a, v).transpose(1, 2).reshape(x.size(0), -1, 16)\n"
      "  return torch.linear(y, self.wo, self.bo)\n",
      constants, normal_batches(2, {4, 6, 16}));
  const auto candidates = candidates_for(model, recipe_for_bits({8, 8}));
  int products = 0;
  for (std::size_t i = 0; i < model.search.sites.size(); ++i) {
    if (linear_of(model.search.sites[i]) != nullptr) continue;
    ++products;
    ASSERT_EQ(candidates[i].activation_noise.size(), 1U);
    EXPECT_LT(candidates[i].activation_noise[0], 1e-3 * candidates[i].signal);
  }
  EXPECT_EQ(products, 2);
}

// Of the tokens that the second Linear reads the first channel is four times as wide.
TEST(FitCandidates, GridsCoverAllReadersOfANorm) {
  std::map<std::string, at::Tensor> constants;
  add_linear(constants, "a", 8, 16, 1);
  add_linear(constants, "b", 8, 16, 2);
  constants["g"] = at::ones({16});
  constants["c"] = at::zeros({16});
  auto batches = normal_batches(2, {4, 8, 16});
  for (auto& batch : batches) {
    batch[0].mul_(0.1).add_(at::sign(batch[0]));
    batch[0].slice(1, 4).mul_(0.01).select(-1, 0).fill_(1.0);
  }
  const Prepared model = testing::scripted(
      "  n = torch.layer_norm(x, [16], self.g, self.c)\n"
      "  return (torch.linear(n[:, :4], self.wa, self.ba) +\n"
      "          torch.linear(n[:, 4:], self.wb, self.bb))\n",
      constants, std::move(batches));
  const auto& sites = model.search.sites;
  ASSERT_EQ(sites.size(), 2U);
  ASSERT_NE(norm_of(sites[0]), nullptr);
  ASSERT_EQ(norm_of(sites[0]), norm_of(sites[1]));
  Recipe recipe = recipe_for_bits({8, 8});
  recipe.norm.granularity = InputGranularity::kPerChannel;
  const auto candidates = candidates_for(model, recipe);
  const Streams streams(model.model, model.batches, 1);
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const at::Tensor x = streams.first_value(sites[i].node->input(0), Stream::kFloat);
    ASSERT_EQ(candidates[i].inputs.size(), 1U);
    const at::Tensor got = fake_quantize(x, candidates[i].inputs[0].quantizer);
    EXPECT_LT((got - x).norm().item<double>(), 0.05 * x.norm().item<double>()) << i;
  }
}

}  // namespace
}  // namespace repquant
