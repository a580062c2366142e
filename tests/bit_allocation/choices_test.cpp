#include "bit_allocation/choices.h"

#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <map>
#include <string>

#include "recipe/json.h"
#include "support/errors.h"
#include "support/prepared.h"
#include "support/scripted.h"

namespace repquant {
namespace {

using Widths = std::vector<int>;

const Candidates kCandidates{.weight_bits = {3, 4}, .activation_bits = {4, 6}};

std::size_t index_of(const testing::Prepared& model, const std::string& path) {
  return static_cast<std::size_t>(&model.site(path) - model.search.sites.data());
}

TEST(Candidates, AreWidthsOfTheirOwn) {
  const Candidates candidates = candidates_of({{6, 6}, {3, 8}, {3, 4}});
  EXPECT_EQ(candidates.weight_bits, (Widths{3, 6}));
  EXPECT_EQ(candidates.activation_bits, (Widths{4, 6, 8}));
  EXPECT_ERROR(candidates_of({}), ErrorKind::kUsage, "`candidates`");
  EXPECT_ERROR(candidates_of({{4, 4}, {4, 16}}), ErrorKind::kUsage, "w4a16");
}

TEST(Choices, SitesOfOneNormShareTheirActivations) {
  const auto model = testing::prepare_fixture("vit_separate", "trace");  // q, k, v apart
  const Choices choices = find_choices(model.search.sites, recipe_for_bits({4, 4}), kCandidates);
  std::size_t grouped = 0, largest = 0;
  for (const auto& group : choices.groups) {
    grouped += group.size();
    largest = std::max(largest, group.size());
    for (const std::size_t i : group) {
      EXPECT_EQ(norm_of(model.search.sites[i]), norm_of(model.search.sites[group.front()]));
    }
  }
  EXPECT_EQ(grouped, model.search.sites.size());
  EXPECT_EQ(largest, 3U);
  // Scores and softmax products are alone and have no weight.
  for (const auto& group : choices.groups) {
    const Site& site = model.search.sites[group.front()];
    if (linear_of(site) != nullptr) continue;
    EXPECT_EQ(group.size(), 1U);
    EXPECT_TRUE(choices.sites[group.front()].weight_bits.empty());
  }
}

TEST(Choices, WhatTheRecipeStatesIsFixed) {
  const auto model = testing::prepare_fixture("vit_separate", "trace");
  Recipe recipe = recipe_for_bits({4, 4});
  const std::string first = model.search.sites.front().path;
  // One of the three that share a norm: the others follow.
  const auto q = std::find_if(model.search.sites.begin(), model.search.sites.end(),
                              [](const Site& site) { return norm_of(site) != nullptr; });
  recipe.overrides = {{q->path, 5, 7}};
  recipe.exclude = {model.search.sites.back().path};
  const Choices choices = find_choices(model.search.sites, recipe, kCandidates);
  EXPECT_EQ(choices.sites.front().activation_bits, Widths{8}) << first;  // the recipe's default
  EXPECT_EQ(choices.sites.front().weight_bits, kCandidates.weight_bits);
  EXPECT_EQ(choices.sites[index_of(model, q->path)].weight_bits, Widths{5});
  EXPECT_TRUE(choices.sites.back().weight_bits.empty());
  EXPECT_TRUE(choices.sites.back().activation_bits.empty());
  int followers = 0;
  for (std::size_t i = 0; i < model.search.sites.size(); ++i) {
    if (norm_of(model.search.sites[i]) != norm_of(*q)) continue;
    EXPECT_EQ(choices.sites[i].activation_bits, Widths{7});
    ++followers;
  }
  EXPECT_EQ(followers, 3);
  for (const auto& group : choices.groups) EXPECT_NE(group.back(), choices.sites.size() - 1);
}

TEST(Choices, SitesStatedDifferentlyDoNotShare) {
  const auto model = testing::prepare_fixture("vit_separate", "trace");
  std::vector<std::size_t> shared;
  for (const auto& group :
       find_choices(model.search.sites, recipe_for_bits({4, 4}), kCandidates).groups) {
    if (group.size() == 3) shared = group;
  }
  ASSERT_EQ(shared.size(), 3U);
  Recipe recipe = recipe_for_bits({4, 4});
  recipe.overrides = {{model.search.sites[shared[0]].path, 0, 5},
                      {model.search.sites[shared[1]].path, 0, 6}};
  const Choices choices = find_choices(model.search.sites, recipe, kCandidates);
  EXPECT_NE(std::find(choices.groups.begin(), choices.groups.end(),
                      std::vector<std::size_t>{shared[0], shared[2]}),
            choices.groups.end());
  EXPECT_NE(
      std::find(choices.groups.begin(), choices.groups.end(), std::vector<std::size_t>{shared[1]}),
      choices.groups.end());
}

// A norm with a reader in floating point carries no codes, so those that read other rows of it make
// their own (as in group_inputs()).
TEST(Choices, ReadersOfANormThatIsNotFoldedShareTheirInputAlone) {
  std::map<std::string, at::Tensor> constants;
  for (const char* name : {"a", "b", "d"}) testing::add_linear(constants, name, 8, 16, 1);
  constants["g"] = at::ones({16});
  constants["c"] = at::zeros({16});
  const auto model = testing::scripted(
      "  n = torch.layer_norm(x, [16], self.g, self.c)\n"
      "  return (torch.linear(n[:, :4], self.wa, self.ba) +\n"
      "          torch.linear(n[:, 4:], self.wb, self.bb) * torch.linear(n[:, :4], self.wd))\n",
      constants, testing::normal_batches(1, {4, 8, 16}));
  ASSERT_EQ(model.search.sites.size(), 3U);
  Recipe recipe = recipe_for_bits({4, 4});
  EXPECT_EQ(find_choices(model.search.sites, recipe, kCandidates).groups.size(), 1U);
  recipe.exclude = {model.search.sites.back().path};
  EXPECT_EQ(find_choices(model.search.sites, recipe, kCandidates).groups.size(), 2U);
}

TEST(Choices, WeightOnlyIsRefusedAndWeightOnlySitesHaveNoActivations) {
  const auto model = testing::prepare_fixture("vit_fused", "trace");
  EXPECT_ERROR(find_choices(model.search.sites, recipe_for_bits({4, 16}), kCandidates),
               ErrorKind::kUsage, "w4a16");
  Recipe recipe = recipe_for_bits({4, 4});
  recipe.overrides = {{model.search.sites.back().path, 0, 16}};
  const Choices choices = find_choices(model.search.sites, recipe, kCandidates);
  EXPECT_TRUE(choices.sites.back().activation_bits.empty());
  EXPECT_EQ(choices.sites.back().weight_bits, kCandidates.weight_bits);
  recipe.attention.quantize = false;
  for (const auto& group : find_choices(model.search.sites, recipe, kCandidates).groups) {
    EXPECT_NE(linear_of(model.search.sites[group.front()]), nullptr);
  }
}

}  // namespace
}  // namespace repquant
