// Which Linears share the codes of their input, and by what errors of it are judged.
#include "fit/consumers.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <string>

#include "recipe/json.h"
#include "support/prepared.h"
#include "support/random.h"

namespace repquant {
namespace {

const testing::Prepared& vit() {  // q, k and v apart
  static const auto prepared = testing::prepare_planted(1);
  return prepared;
}

std::size_t index_of(const std::string& path) {
  return static_cast<std::size_t>(&vit().site(path) - vit().search.sites.data());
}

std::vector<InputGroup> groups_for(const Recipe& recipe, const std::string& rounded = "") {
  const auto& sites = vit().search.sites;
  std::vector<bool> has_rounded_weight(sites.size(), false);
  if (!rounded.empty()) has_rounded_weight[index_of(rounded)] = true;
  return group_inputs(sites, resolve_bits(sites, recipe), has_rounded_weight);
}

/// The group that a site is in.
InputGroup group_of(const std::vector<InputGroup>& groups, const std::string& path) {
  const auto place = group_of_sites(groups, vit().search.sites.size())[index_of(path)];
  return place ? groups[*place] : InputGroup{};
}

const std::string kQuery = "blocks.0.attn.query", kKey = "blocks.0.attn.key",
                  kValue = "blocks.0.attn.value";

TEST(InputGroups, ReadersOfAFoldedNormAreOne) {
  const auto groups = groups_for(recipe_for_bits({4, 4}));
  const InputGroup group = group_of(groups, kQuery);
  EXPECT_EQ(group.norm, norm_of(vit().site(kQuery)));
  EXPECT_NE(group.norm, nullptr);
  EXPECT_EQ(group.sites,
            (std::vector<std::size_t>{index_of(kQuery), index_of(kKey), index_of(kValue)}));
}

TEST(InputGroups, EveryQuantizedLinearIsInOne) {
  const auto groups = groups_for(recipe_for_bits({4, 4}));
  const auto& sites = vit().search.sites;
  std::vector<int> seen(sites.size(), 0);
  for (const InputGroup& group : groups) {
    EXPECT_TRUE(std::is_sorted(group.sites.begin(), group.sites.end()));
    for (const std::size_t i : group.sites) ++seen[i];
  }
  for (std::size_t i = 0; i < sites.size(); ++i) {
    EXPECT_EQ(seen[i], linear_of(sites[i]) != nullptr ? 1 : 0) << sites[i].path;
  }
}

TEST(InputGroups, AReaderThatCannotFollowForbidsTheFold) {
  Recipe excluded = recipe_for_bits({4, 4});
  excluded.exclude = {kKey};
  const InputGroup two = group_of(groups_for(excluded), kQuery);
  EXPECT_EQ(two.norm, nullptr);
  EXPECT_EQ(two.sites, (std::vector<std::size_t>{index_of(kQuery), index_of(kValue)}));
  EXPECT_TRUE(group_of(groups_for(excluded), kKey).sites.empty());

  Recipe wider = recipe_for_bits({4, 4});
  wider.overrides = {{kKey, 0, 8}};
  EXPECT_EQ(group_of(groups_for(wider), kQuery).norm, nullptr);
  EXPECT_EQ(group_of(groups_for(wider), kKey).sites, std::vector<std::size_t>{index_of(kKey)});

  const InputGroup rounded = group_of(groups_for(recipe_for_bits({4, 4}), kValue), kQuery);
  EXPECT_EQ(rounded.norm, nullptr);
  EXPECT_EQ(rounded.sites.size(), 3U);
}

TEST(InputGroups, WeightOnlySitesAreInNone) {
  EXPECT_TRUE(groups_for(recipe_for_bits({4, 16})).empty());
}

TEST(Gram, IsTheSquaredErrorOfTheOutputs) {
  testing::Random random(8);
  const auto& sites = vit().search.sites;
  const std::vector<std::size_t> group = {index_of(kQuery), index_of(kKey)};
  const at::Tensor first = linear_of(sites[group[0]])->weight,
                   second = linear_of(sites[group[1]])->weight;
  Sensitivity sensitivity;
  sensitivity.channels = random.uniform({first.size(0)}, 0.1, 2.0).to(at::kDouble);
  const Sensitivities sensitivities = {{sites[group[0]].node->output(), sensitivity}};
  const at::Tensor error = random.normal({1, first.size(1)});
  const double expected =
      (at::linear(error, first).square() * sensitivity.channels).sum().item<double>() +
      at::linear(error, second).square().sum().item<double>();  // not measured: all alike
  const std::vector<InputReader> readers = readers_of(sites, group, sensitivities);
  const at::Tensor gram = gram_of(readers);
  EXPECT_NEAR(at::mm(at::mm(error, gram), error.t()).item<double>(), expected, 1e-4 * expected);
  EXPECT_TRUE(at::allclose(gram.diagonal(), gram_diagonal_of(readers)));
}

TEST(Gram, IsEstimatedByProjections) {
  testing::Random random(9);
  const at::Tensor weight = random.normal({1200, 40}), counts = random.uniform({1200}, 0.1, 2.0);
  const std::vector<InputReader> readers = {{weight, counts.to(at::kDouble)},
                                            {random.normal({300, 40}), {}}};
  const at::Tensor errors = random.normal({64, 40});
  const double exact = at::mm(errors, gram_of(readers)).mul_(errors).sum().item<double>();
  const double estimate = at::mm(errors, gram_sketch_of(readers)).square().sum().item<double>();
  EXPECT_NEAR(estimate / exact, 1, 0.1);  // 2 % is a standard error
  EXPECT_NE(estimate, exact);
}

}  // namespace
}  // namespace repquant
