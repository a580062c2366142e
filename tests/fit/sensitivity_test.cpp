#include "fit/sensitivity.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <filesystem>
#include <string>
#include <vector>

#include "graph/walker.h"
#include "support/fixtures.h"

namespace repquant {
namespace {

struct Measured {
  Model model;
  SiteSearch search;
  Sensitivities sensitivities;
};

Measured measure(int threads) {
  Measured result{load_model(testing::fixture_path("vit_fused", "trace"), 0), {}, {}};
  result.search = find_sites(result.model);
  const auto inputs = testing::fixture_data("vit_fused").inputs;
  const Schedule schedule(*result.model.graph);
  result.sensitivities = measure_sensitivity(*result.model.graph, schedule, result.search.sites,
                                             {inputs, inputs}, threads);
  return result;
}

TEST(Sensitivity, OfTheOutputIsOne) {
  const Measured measured = measure(1);
  const Site& head = measured.search.sites.back();
  const Sensitivity& sensitivity = measured.sensitivities.at(head.node->output());
  EXPECT_EQ(sensitivity.tokens.size(), 2U);
  EXPECT_TRUE(at::equal(sensitivity.tokens[0], at::ones_like(sensitivity.tokens[0])));
  EXPECT_TRUE(at::equal(sensitivity.channels, at::ones_like(sensitivity.channels)));
}

TEST(Sensitivity, CoversEverySiteAndIsTheSameOnAnyThreads) {
  const Measured one = measure(1), two = measure(2);
  for (std::size_t i = 0; i < one.search.sites.size(); ++i) {
    const Site& site = one.search.sites[i];
    const LinearSite* linear = linear_of(site);
    if (linear == nullptr) continue;
    const auto found = one.sensitivities.find(site.node->output());
    ASSERT_NE(found, one.sensitivities.end()) << site.path;
    EXPECT_EQ(found->second.channels.size(0), linear->weight.size(0)) << site.path;
    EXPECT_GT(found->second.channels.sum().item<double>(), 0) << site.path;
    const auto& other = two.sensitivities.at(two.search.sites[i].node->output());
    EXPECT_TRUE(at::equal(found->second.channels, other.channels)) << site.path;
  }
}

// What is kept of a batch must not lie between what the passes give back: memory would grow by it.
TEST(Sensitivity, BatchesLieInOnePieceOfMemory) {
  const Measured measured = measure(1);
  for (const auto& [value, sensitivity] : measured.sensitivities) {
    const std::vector<at::Tensor>& tokens = sensitivity.tokens;
    ASSERT_EQ(tokens.size(), 2U);
    EXPECT_TRUE(tokens[0].is_alias_of(tokens[1])) << value->debugName();
    EXPECT_EQ(tokens[1].storage_offset(), tokens[0].numel()) << value->debugName();
  }
}

// An encoder that classifies by its first token. Masked tokens matter nowhere; those that only the
// last block leaves out matter before it.
TEST(Sensitivity, MaskedTokensAreUnused) {
  const Model model = load_model(testing::fixture_path("post_norm_float_mask", "trace"), 0);
  const SiteSearch search = find_sites(model);
  auto inputs = testing::fixture_data("post_norm_float_mask").inputs;
  at::Tensor& mask = inputs.at(1);
  mask.fill_(1);
  mask.slice(1, 7).zero_();
  const auto sensitivities =
      measure_sensitivity(*model.graph, Schedule(*model.graph), search.sites, {inputs}, 1);
  int seen = 0;
  for (const Site& site : search.sites) {
    const auto found = sensitivities.find(site.node->output());
    if (linear_of(site) == nullptr || found == sensitivities.end()) continue;
    const Sensitivity& sensitivity = found->second;
    if (sensitivity.tokens[0].numel() != mask.numel()) continue;
    ASSERT_EQ(sensitivity.used.size(), 1U) << site.path;
    EXPECT_TRUE(at::equal(sensitivity.used[0], mask.flatten().to(at::kDouble))) << site.path;
    const at::Tensor weights = row_weights(&sensitivity, 0.8);
    EXPECT_EQ((weights > 0).sum().item<std::int64_t>(), mask.sum().item<std::int64_t>());
    EXPECT_NEAR(weights.mean().item<double>(), 1, 1e-12);
    ++seen;
  }
  EXPECT_GT(seen, 4);
}

// Two batches of one sample with two heads, of three tokens with four channels.
// A model that cuts its samples to the longest of them: a few of them have fewer rows each.
TEST(Sensitivity, HasTheRowsOfTheWholeBatch) {
  at::manual_seed(1);
  torch::jit::Module module("m");
  module.register_parameter("w", at::randn({8, 8}), false);
  module.register_parameter("v", at::randn({5, 8}), false);
  module.define(
      "def forward(self, x, lengths):\n"
      "    h = torch.linear(x[:, :int(lengths.max())], self.w)\n"
      "    return torch.linear(torch.relu(h), self.v).sum(1)\n");
  const std::string path =
      (std::filesystem::path(::testing::TempDir()) / "sensitivity_cut.pt").string();
  module.save(path);
  const Model model = load_model(path, 2);
  const SiteSearch search = find_sites(model);
  const std::vector<at::Tensor> batch{at::randn({4, 6, 8}), at::tensor({3, 3, 6, 2}, at::kLong)};
  const auto sensitivities =
      measure_sensitivity(*model.graph, Schedule(*model.graph), search.sites, {batch}, 1);
  ASSERT_EQ(search.sites.size(), 2U);
  for (const Site& site : search.sites) {
    EXPECT_EQ(sensitivities.at(site.node->output()).tokens.at(0).numel(), 4 * 6) << site.path;
  }
}

TEST(OperandWeights, AreOfRowsInTheOrderOfTokens) {
  const auto of_tokens = [](std::int64_t rows, std::int64_t axis) {
    const at::Tensor ones = at::ones({rows}, at::kDouble);
    return Sensitivity{.tokens = {ones, ones * 16},
                       .channels = at::ones({4}, at::kDouble),
                       .used = {ones, ones},
                       .channel_axis = axis};
  };
  const at::Tensor left = at::ones({1, 2, 3, 4});
  const Sensitivity measured = of_tokens(3, -1);
  EXPECT_EQ(operand_weights(&measured, left, -1, {0, 1}, 0.5).numel(), 6);
  const at::Tensor second = operand_weights(&measured, left, -1, {1}, 0.5);
  EXPECT_TRUE(at::allclose(second, at::ones({3}, at::kDouble)));
  EXPECT_FALSE(operand_weights(&measured, left, -2, {0, 1}, 0.5).defined());
  EXPECT_FALSE(operand_weights(nullptr, left, -1, {0, 1}, 0.5).defined());
  const Sensitivity of_linear = of_tokens(6, -1);  // a row for each head
  EXPECT_FALSE(operand_weights(&of_linear, left, -1, {0, 1}, 0.5).defined());
  const Sensitivity keys = of_tokens(3, -2);
  EXPECT_EQ(operand_weights(&keys, left.transpose(-2, -1), -2, {0, 1}, 0.5).numel(), 6);
}

// squares^(3/4) = 1, 8, 0, 27: mean 9.
TEST(RowWeights, HaveMeanOne) {
  Sensitivity sensitivity{
      {at::tensor({1.0, 16.0}, at::kDouble), at::tensor({0.0, 81.0}, at::kDouble)},
      at::ones({2}, at::kDouble),
      {at::ones({2}, at::kDouble), at::ones({2}, at::kDouble)}};
  const at::Tensor part = at::tensor({1.0, 8.0, 0.0, 27.0}, at::kDouble) / 18;
  EXPECT_TRUE(at::allclose(row_weights(&sensitivity, 0.5), part + 0.5));
  EXPECT_FALSE(row_weights(&sensitivity, 0).defined());
  EXPECT_FALSE(row_weights(nullptr, 1).defined());
  sensitivity.used = {at::ones({2}, at::kDouble), at::tensor({0.0, 1.0}, at::kDouble)};
  const at::Tensor used = at::tensor({1.0, 1.0, 0.0, 1.0}, at::kDouble);
  EXPECT_TRUE(at::allclose(row_weights(&sensitivity, 0.5), part + used * (0.5 / 0.75)));
}

}  // namespace
}  // namespace repquant
