// What a run takes at least.
#include "fit/memory_need.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "support/prepared.h"
#include "support/scripted.h"

namespace repquant {
namespace {

std::int64_t widest_input(const std::vector<Site>& sites) {
  std::int64_t widest = 0;
  for (const Site& site : sites) {
    if (const auto* linear = linear_of(site)) widest = std::max(widest, linear->weight.size(1));
  }
  return widest;
}

TEST(LeastMemory, HoldsTheSumsOfTheWidestLinear) {
  const auto prepared = testing::prepare_planted(1);
  const auto& sites = prepared.search.sites;
  std::vector<at::Tensor> one;
  for (const auto& tensor : prepared.batches.front()) one.push_back(tensor.narrow(0, 0, 1));
  const MemoryNeed need = least_memory(prepared.model, sites,
                                       resolve_bits(sites, recipe_for_bits({8, 8})), {}, one, {});
  const std::int64_t columns = widest_input(sites);
  EXPECT_GE(need.bytes, 2 * 8 * columns * columns);
  EXPECT_NE(need.what.find("the fit of "), std::string::npos);
}

TEST(LeastMemory, OfManyInputsHangsOnTheRows) {
  constexpr std::int64_t kMany = 8200;
  const auto prepared = testing::scripted("    return torch.linear(x, self.w) * 2\n",
                                          {{"w", testing::Random(1).normal({3, kMany})}},
                                          testing::normal_batches(1, {2, kMany}));
  const auto& sites = prepared.search.sites;
  const auto bits = resolve_bits(sites, recipe_for_bits({8, 8}));
  const auto of = [&](std::int64_t all, const WeightRecipe& recipe) {
    return least_memory(prepared.model, sites, bits, recipe, prepared.batches[0], {1, all}).bytes;
  };
  constexpr std::int64_t kPairs = std::int64_t{2} * 8 * kMany * kMany;
  EXPECT_GE(of(1025, {}), kPairs);
  EXPECT_LT(of(1024, {}), kPairs / 100);  // too few rows
  WeightRecipe diagonal;
  diagonal.rounding = WeightRounding::kNearest;
  EXPECT_GE(of(1025, diagonal), kPairs);  // compensation reads pairs
  diagonal.compensation = Compensation::kNone;
  EXPECT_LT(of(1025, diagonal), kPairs / 100);
}

TEST(LeastMemory, GrowsWithTheBatch) {
  const auto prepared = testing::prepare_planted(1);
  const auto& sites = prepared.search.sites;
  Recipe none;
  none.exclude = {"*"};  // no site is fitted: activations are all there is
  const auto bits = resolve_bits(sites, none);
  const auto of = [&](std::int64_t samples, std::int64_t times) {
    std::vector<at::Tensor> batch;
    for (const auto& tensor : prepared.batches.front()) {
      batch.push_back(tensor.narrow(0, 0, samples));
    }
    return least_memory(prepared.model, sites, bits, {}, batch, {.in_batch = times});
  };
  const MemoryNeed one = of(1, 1), eight = of(8, 1);
  EXPECT_EQ(of(1, 8).bytes, 8 * one.bytes);
  EXPECT_EQ(one.what, "the activations of one batch");
  EXPECT_GT(one.bytes, 0);
  EXPECT_GE(eight.bytes, 6 * one.bytes);
  EXPECT_LE(eight.bytes, 8 * one.bytes);
}

}  // namespace
}  // namespace repquant
