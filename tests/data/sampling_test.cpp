#include "data/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "support/errors.h"

namespace repquant {
namespace {

TEST(Sampling, DrawsSortedDistinctIndices) {
  for (const std::uint64_t seed : {0, 1, 2, 3}) {
    const auto drawn = draw_samples(1000, 128, seed);
    EXPECT_EQ(drawn.size(), 128U);
    EXPECT_TRUE(std::is_sorted(drawn.begin(), drawn.end()));
    EXPECT_EQ(std::adjacent_find(drawn.begin(), drawn.end()), drawn.end());
    EXPECT_GE(drawn.front(), 0);
    EXPECT_LT(drawn.back(), 1000);
  }
  EXPECT_NE(draw_samples(1000, 128, 0), draw_samples(1000, 128, 1));
}

// Worked out with an independent implementation of the generator and the shuffle (Python).
TEST(Sampling, IsTheSameEverywhere) {
  EXPECT_EQ(draw_samples(500, 8, 0),
            (std::vector<std::int64_t>{111, 163, 194, 233, 277, 316, 332, 480}));
  EXPECT_EQ(draw_samples(372, 5, 42), (std::vector<std::int64_t>{116, 138, 180, 233, 352}));
}

TEST(Sampling, AllWhenThereAreNoMore) {
  EXPECT_EQ(draw_samples(3, 3, 7), (std::vector<std::int64_t>{0, 1, 2}));
  EXPECT_EQ(draw_samples(3, 128, 7), (std::vector<std::int64_t>{0, 1, 2}));
}

TEST(Sampling, IsUniform) {
  std::map<std::vector<std::int64_t>, int> count;
  constexpr int kDraws = 20000;
  for (std::uint64_t seed = 0; seed < kDraws; ++seed) ++count[draw_samples(5, 2, seed)];
  ASSERT_EQ(count.size(), 10U);
  // Five standard deviations of a binomial with p = 1/10.
  for (const auto& [subset, times] : count) EXPECT_NEAR(times, kDraws / 10, 5 * 43);
}

TEST(Sampling, NothingToDrawIsAnError) {
  EXPECT_ERROR(draw_samples(0, 1, 0), ErrorKind::kUsage, "1 of 0");
  EXPECT_ERROR(draw_samples(5, 0, 0), ErrorKind::kUsage, "0 of 5");
}

}  // namespace
}  // namespace repquant
