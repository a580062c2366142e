#include "bit_allocation/choose_bits.h"

#include <gtest/gtest.h>

#include <cmath>

#include "recipe/json.h"
#include "support/errors.h"
#include "support/prepared.h"

namespace repquant {
namespace {

const Candidates kChosenCandidates{.weight_bits = {3, 4, 6, 8}, .activation_bits = {3, 4, 6, 8}};

/// Errors that fall fourfold per bit; site and group i start at 1 + i.
ErrorTable table_of(const Choices& choices, bool with_kl) {
  const auto widths = [with_kl](const std::vector<int>& bits, std::size_t i) {
    std::vector<WidthError> list;
    for (const int b : bits) {
      const double error = static_cast<double>(1 + i) * std::pow(4.0, -b);
      list.push_back({b, error, error, with_kl ? 2 * error : 0.0});
    }
    return list;
  };
  ErrorTable table;
  for (std::size_t i = 0; i < choices.sites.size(); ++i) {
    table.sites.push_back(
        {widths(choices.sites[i].weight_bits, i), widths(choices.sites[i].activation_bits, i)});
  }
  for (std::size_t g = 0; g < choices.groups.size(); ++g) {
    table.groups.push_back(widths(choices.sites[choices.groups[g].front()].activation_bits, g));
  }
  return table;
}

Recipe free_recipe() {
  Recipe recipe = recipe_for_bits({4, 4});
  recipe.first_layer = {0, 0};
  return recipe;
}

TEST(ChooseBits, AveragesMeetTheTargetAndErrorsFallWithIt) {
  const auto model = testing::prepare_fixture("vit_separate", "trace");
  const auto& sites = model.search.sites;
  const Choices choices = find_choices(sites, free_recipe(), kChosenCandidates);
  for (const bool with_kl : {false, true}) {
    const ErrorTable table = table_of(choices, with_kl);
    double last = INFINITY;
    for (const double target : {3.0, 3.25, 4.0, 4.5, 5.0, 6.5, 8.0}) {
      const Allocation allocation = choose_bits(sites, choices, table, {target, target});
      EXPECT_LE(allocation.average.weights, target + 1e-9);
      EXPECT_LE(allocation.average.activations, target + 1e-9);
      EXPECT_LT(allocation.output_error, last);
      EXPECT_DOUBLE_EQ(allocation.kl, with_kl ? 2 * allocation.output_error : 0.0);
      last = allocation.output_error;
      for (const auto& group : choices.groups) {
        for (const std::size_t i : group) {
          EXPECT_EQ(allocation.bits[i].activation_bits,
                    allocation.bits[group.front()].activation_bits);
        }
      }
    }
    const Allocation least = choose_bits(sites, choices, table, {3.0, 8.0});
    EXPECT_DOUBLE_EQ(least.average.weights, 3.0);
    EXPECT_DOUBLE_EQ(least.average.activations, 8.0);
  }
}

TEST(ChooseBits, TheAverageIsOverElementsAndMultiplyAdds) {
  const auto model = testing::prepare_fixture("vit_fused", "trace");
  const auto& sites = model.search.sites;
  std::vector<SiteBits> bits(sites.size(), SiteBits{true, 4, 6});
  bits.back() = {true, 8, 16};
  bits.front() = {false, 2, 2};
  double elements = 0, wide = 0;
  for (std::size_t i = 1; i < sites.size(); ++i) {
    if (linear_of(sites[i]) == nullptr) continue;
    elements += static_cast<double>(constant_of(sites[i]).numel());
    if (i + 1 == sites.size()) wide = static_cast<double>(constant_of(sites[i]).numel());
  }
  const TargetBits average = average_bits(sites, bits);
  EXPECT_DOUBLE_EQ(average.weights, 4 + 4 * wide / elements);
  EXPECT_DOUBLE_EQ(average.activations, 6.0);  // weight-only and excluded sites do not count
}

TEST(ChooseBits, SaysWhatTheLeastTargetIs) {
  const auto model = testing::prepare_fixture("vit_fused", "trace");
  const auto& sites = model.search.sites;
  const Choices choices = find_choices(sites, recipe_for_bits({4, 4}), kChosenCandidates);
  const ErrorTable table = table_of(choices, true);
  // The first layer's input stays at 8 bits, so 3.0 cannot be met.
  EXPECT_ERROR(choose_bits(sites, choices, table, {4.0, 3.0}), ErrorKind::kUsage, "activations");
  EXPECT_ERROR(choose_bits(sites, choices, table, {2.5, 8.0}), ErrorKind::kUsage, "at least 3.000");
}

TEST(WithBits, TheRecipeGivesTheSameBits) {
  const auto model = testing::prepare_fixture("vit_separate", "trace");
  const auto& sites = model.search.sites;
  Recipe recipe = free_recipe();
  recipe.overrides = {{sites[2].path, 5, 0}};
  recipe.exclude = {sites.back().path};
  const Choices choices = find_choices(sites, recipe, kChosenCandidates);
  const Allocation allocation = choose_bits(sites, choices, table_of(choices, true), {4.5, 4.5});
  const Recipe mixed = with_bits(recipe, sites, allocation.bits);
  const auto again = resolve_bits(sites, parse_recipe(recipe_to_json(mixed)).recipe);
  for (std::size_t i = 0; i < sites.size(); ++i) {
    EXPECT_EQ(again[i].quantized, i + 1 < sites.size()) << sites[i].path;
    if (!again[i].quantized) continue;
    EXPECT_EQ(again[i].activation_bits, allocation.bits[i].activation_bits) << sites[i].path;
    if (linear_of(sites[i]) != nullptr) {
      EXPECT_EQ(again[i].weight_bits, allocation.bits[i].weight_bits) << sites[i].path;
    }
  }
  EXPECT_EQ(again[2].weight_bits, 5);
}

TEST(WithBits, PathsStandForThemselves) {
  const auto model = testing::prepare_fixture("vit_fused", "trace");
  std::vector<Site> sites = model.search.sites;
  sites[1].path = "blocks[0].*?";
  const std::vector<SiteBits> bits(sites.size(), SiteBits{true, 5, 7});
  const Recipe mixed = with_bits(free_recipe(), sites, bits);
  const auto again = resolve_bits(sites, mixed);
  EXPECT_EQ(again[1].activation_bits, 7);
  EXPECT_EQ(mixed.overrides[1].pattern, "blocks[[]0].[*][?]");
}

}  // namespace
}  // namespace repquant
