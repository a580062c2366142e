// Layers that a model applies more than once: one weight, one plan for it.
#include "fit/shared_weights.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

#include "fit/fit_sites.h"
#include "plan/simulate.h"
#include "recipe/json.h"
#include "support/prepared.h"

namespace repquant {
namespace {

/// ALBERT: the layers of a stack are one layer, applied again.
const testing::Prepared& albert() {
  static const testing::Prepared prepared = [] {
    const auto file = testing::source_dir() / "tests/fixtures/architectures/albert";
    return testing::prepare(file.string() + ".pt", {read_npz(file.string() + ".npz").tensors});
  }();
  return prepared;
}

FittedSites fit_all(const Recipe& recipe) {
  return fit_sites(albert().model, albert().search, albert().batches, recipe, {});
}

/// The plans of Linears under the codes' addresses.
std::map<const void*, std::vector<const LinearPlan*>> by_codes(const FittedSites& result) {
  std::map<const void*, std::vector<const LinearPlan*>> plans;
  for (const auto& plan : result.plans) {
    if (const auto* linear = std::get_if<LinearPlan>(&plan.plan)) {
      plans[linear->weight.codes.data_ptr()].push_back(linear);
    }
  }
  return plans;
}

TEST(SharedWeights, EveryCallReadsTheSameCodes) {
  const FittedSites result = fit_all(recipe_for_bits({8, 8}));
  std::size_t shared = 0;
  for (const auto& [codes, plans] : by_codes(result)) {
    if (plans.size() == 1) continue;
    shared += plans.size();
    for (const LinearPlan* plan : plans) {
      EXPECT_FALSE(plan->input.per_channel());
      EXPECT_TRUE(plan->norm.empty());
      EXPECT_TRUE(plan->side.channels.empty());
      EXPECT_TRUE(plan->weight.scale.is_same(plans[0]->weight.scale));
    }
  }
  EXPECT_EQ(shared, 12U);  // query, key, value, output and two of the feed-forward net, two times
  EXPECT_GT(result.output_sqnr_db, 20.0);
}

TEST(SharedWeights, CanBeFittedForEachCall) {
  Recipe recipe = recipe_for_bits({8, 8});
  recipe.weights.share_calls = false;
  const FittedSites result = fit_all(recipe);
  for (const auto& [codes, plans] : by_codes(result)) EXPECT_EQ(plans.size(), 1U);
}

TEST(SharedWeights, CallsOfOtherBitsHaveCodesOfTheirOwn) {
  Recipe recipe = recipe_for_bits({8, 8});
  const std::string& path = albert().search.sites.back().path;
  std::string last;
  for (const Site& site : albert().search.sites) {
    if (linear_of(site) != nullptr && site.path != path) last = site.path;
  }
  recipe.overrides.push_back({last, 4, 8});
  const FittedSites result = fit_all(recipe);
  std::size_t shared = 0;
  for (const auto& [codes, plans] : by_codes(result)) {
    if (plans.size() > 1) shared += plans.size();
  }
  EXPECT_EQ(shared, 10U);
}

TEST(SharedWeights, WeightOnlyCallsKeepTheirGroups) {
  Recipe recipe = recipe_for_bits({4, 16});
  recipe.weights.group_size = 8;
  const FittedSites result = fit_all(recipe);
  std::size_t shared = 0;
  for (const auto& [codes, plans] : by_codes(result)) {
    if (plans.size() == 1) continue;
    shared += plans.size();
    for (const LinearPlan* plan : plans) EXPECT_EQ(plan->weight.group_size, 8);
  }
  EXPECT_EQ(shared, 12U);
}

}  // namespace
}  // namespace repquant
