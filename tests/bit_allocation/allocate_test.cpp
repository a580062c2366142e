#include "bit_allocation/allocate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/errors.h"
#include "support/random.h"

namespace repquant {
namespace {

using Items = std::vector<std::vector<Choice>>;

std::int64_t cost_of(const Items& items, const std::vector<std::size_t>& chosen) {
  std::int64_t cost = 0;
  for (std::size_t i = 0; i < items.size(); ++i) cost += items[i][chosen[i]].cost;
  return cost;
}

double error_of(const Items& items, const std::vector<std::size_t>& chosen) {
  double error = 0.0;
  for (std::size_t i = 0; i < items.size(); ++i) error += items[i][chosen[i]].error;
  return error;
}

/// The least error of all combinations within the budget.
double brute_force(const Items& items, std::int64_t budget, std::size_t from = 0) {
  if (from == items.size()) return 0.0;
  double best = std::numeric_limits<double>::infinity();
  for (const Choice& choice : items[from]) {
    if (choice.cost > budget) continue;
    best = std::min(best, choice.error + brute_force(items, budget - choice.cost, from + 1));
  }
  return best;
}

/// Errors that fall fourfold per bit from a random start, and sizes that repeat.
Items random_items(testing::Random& random, std::size_t count, std::int64_t largest) {
  Items items(count);
  for (auto& item : items) {
    const auto size =
        1 + static_cast<std::int64_t>(random.uniform() * static_cast<double>(largest));
    const double start = random.uniform();
    for (const int bits : {3, 4, 6, 8}) {
      item.push_back({size * bits, start * std::pow(4.0, -bits) * (0.5 + random.uniform())});
    }
  }
  return items;
}

TEST(Allocate, GivesTheBitsToTheItemThatNeedsThem) {
  // 4 + 4 bits for both: the second item gains more from 6 than the first one loses at 3... but 3 +
  // 6 costs 9, so only 8 is left: 4 + 4.
  const Items items = {{{3, 8.0}, {4, 4.0}, {6, 1.0}}, {{3, 80.0}, {4, 40.0}, {6, 10.0}}};
  EXPECT_EQ(allocate(items, 8), (std::vector<std::size_t>{1, 1}));
  EXPECT_EQ(allocate(items, 9), (std::vector<std::size_t>{0, 2}));
  EXPECT_EQ(allocate(items, 6), (std::vector<std::size_t>{0, 0}));
  EXPECT_EQ(allocate(items, 1000), (std::vector<std::size_t>{2, 2}));
}

TEST(Allocate, IsOptimalOnSmallTables) {
  testing::Random random(7);
  for (int round = 0; round < 40; ++round) {
    const Items items = random_items(random, 6, 5);
    std::int64_t size = 0;
    for (const auto& item : items) size += item[0].cost / 3;
    for (const std::int64_t half_bits : {6, 7, 9, 11, 16}) {
      const std::int64_t budget = size * half_bits / 2;
      const auto chosen = allocate(items, budget);
      EXPECT_LE(cost_of(items, chosen), budget);
      EXPECT_NEAR(error_of(items, chosen), brute_force(items, budget), 1e-15);
    }
  }
}

TEST(Allocate, MeetsTheBudgetAndIsMonotoneWhereCostsAreRounded) {
  testing::Random random(11);
  const Items items = random_items(random, 40, 10'000'000);
  std::int64_t size = 0;
  for (const auto& item : items) size += item[0].cost / 3;
  double last = std::numeric_limits<double>::infinity();
  for (double bits = 3.0; bits <= 8.0; bits += 0.03125) {
    const auto budget = static_cast<std::int64_t>(bits * static_cast<double>(size));
    const auto chosen = allocate(items, budget);
    EXPECT_LE(cost_of(items, chosen), budget);
    EXPECT_LE(error_of(items, chosen), last * (1 + 1e-12)) << bits;
    // Rounding wastes little: an item at most one part of 2^15.
    if (bits > 3.1 && bits < 7.5) {
      EXPECT_GT(cost_of(items, chosen), budget - size / 20) << bits;
    }
    last = error_of(items, chosen);
  }
}

TEST(Allocate, PrefersFewerBitsOfEqualErrors) {
  EXPECT_EQ(allocate({{{8, 1.0}, {3, 1.0}}}, 100), std::vector<std::size_t>{1});
  EXPECT_EQ(allocate({}, 0), std::vector<std::size_t>{});
}

TEST(Allocate, RefusesWhatCannotBe) {
  EXPECT_ERROR(allocate({{{3, 1.0}}, {{4, 1.0}, {5, 1.0}}}, 6), ErrorKind::kUsage, "at least 7");
  EXPECT_ERROR(allocate({{}}, 6), ErrorKind::kInternal, "no choice");
  EXPECT_ERROR(allocate({{{3, std::numeric_limits<double>::quiet_NaN()}}}, 6),
               ErrorKind::kNumerical, "not finite");
}

}  // namespace
}  // namespace repquant
