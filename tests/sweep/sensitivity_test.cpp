#include "sweep/sensitivity.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/ir/ir.h>

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
                                             {inputs, inputs}, threads, nullptr);
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
    if (!site.weight.defined()) continue;
    const auto found = one.sensitivities.find(site.node->output());
    ASSERT_NE(found, one.sensitivities.end()) << site.path;
    EXPECT_EQ(found->second.channels.size(0), site.weight.size(0)) << site.path;
    EXPECT_GT(found->second.channels.sum().item<double>(), 0) << site.path;
    const auto& other = two.sensitivities.at(two.search.sites[i].node->output());
    EXPECT_TRUE(at::equal(found->second.channels, other.channels)) << site.path;
  }
}

TEST(RowWeights, HaveMeanOne) {
  const Sensitivity sensitivity{
      {at::tensor({1.0, 3.0}, at::kDouble), at::tensor({0.0, 4.0}, at::kDouble)},
      at::ones({2}, at::kDouble)};
  EXPECT_TRUE(at::allclose(row_weights(&sensitivity, 0.5),
                           at::tensor({0.75, 1.25, 0.5, 1.5}, at::kDouble)));
  EXPECT_FALSE(row_weights(&sensitivity, 0).defined());
  EXPECT_FALSE(row_weights(nullptr, 1).defined());
}

}  // namespace
}  // namespace repquant
