// What a run takes at least.
#include "fit/memory_need.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "support/prepared.h"

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
  const MemoryNeed need =
      least_memory(prepared.model, sites, resolve_bits(sites, recipe_for_bits({8, 8})), one, 1);
  const std::int64_t columns = widest_input(sites);
  EXPECT_GE(need.bytes, 2 * 8 * columns * columns);
  EXPECT_NE(need.what.find("the fit of "), std::string::npos);
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
    return least_memory(prepared.model, sites, bits, batch, times);
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
