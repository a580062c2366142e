#include "benchmark/timing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "repquant/error.h"

namespace repquant {
namespace {

TEST(Percentile, LiesBetweenNeighbours) {
  EXPECT_DOUBLE_EQ(percentile({3, 1, 2}, 0.5), 2.0);
  EXPECT_DOUBLE_EQ(percentile({4, 1, 2, 3}, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(percentile({1, 2, 3, 4, 5}, 0.9), 4.6);
  EXPECT_DOUBLE_EQ(percentile({7}, 0.99), 7.0);
  EXPECT_THROW(percentile({}, 0.5), Error);
}

TEST(Latency, Summary) {
  const Latency latency = summarize_times({0.2, 0.1, 0.4, 0.3});
  EXPECT_DOUBLE_EQ(latency.median, 0.25);
  EXPECT_DOUBLE_EQ(latency.minimum, 0.1);
  EXPECT_LE(latency.p90, latency.p99);
}

TEST(SpeedUp, DisturbancesOfARoundCancel) {
  // The machine slows down threefold half-way; the ratio of each round stays two.
  std::vector<double> baseline, model;
  for (int i = 0; i < 20; ++i) {
    const double slow = i < 10 ? 1.0 : 3.0;
    baseline.push_back(2.0 * slow);
    model.push_back(slow);
  }
  const SpeedUp result = paired_speed_up(baseline, model);
  EXPECT_DOUBLE_EQ(result.median, 2.0);
  EXPECT_DOUBLE_EQ(result.interval.lower, 2.0);
  EXPECT_DOUBLE_EQ(result.interval.upper, 2.0);
}

// Tables of the sign test: for n = 20 the 6th smallest and largest value, for n = 10 the 2nd.
TEST(SpeedUp, IntervalIsThatOfOrderStatistics) {
  const auto interval_of = [](int n) {
    std::vector<double> baseline, model;
    for (int i = 1; i <= n; ++i) {
      baseline.push_back(i);
      model.push_back(1.0);
    }
    return paired_speed_up(baseline, model).interval;
  };
  EXPECT_DOUBLE_EQ(interval_of(20).lower, 6.0);
  EXPECT_DOUBLE_EQ(interval_of(20).upper, 15.0);
  EXPECT_DOUBLE_EQ(interval_of(10).lower, 2.0);
  EXPECT_DOUBLE_EQ(interval_of(10).upper, 9.0);
  EXPECT_DOUBLE_EQ(interval_of(3).lower, 1.0);  // too few: the whole range
  EXPECT_DOUBLE_EQ(interval_of(3).upper, 3.0);
}

TEST(SpeedUp, IntervalHoldsTheMedianOftenEnough) {
  std::mt19937_64 engine(1);
  int held = 0;
  constexpr int kTrials = 400;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::vector<double> baseline, model;
    for (int i = 0; i < 15; ++i) {
      // Uniform on (0.5, 1.5): the median is 1.
      baseline.push_back(0.5 + static_cast<double>(engine() >> 11U) * 0x1p-53);
      model.push_back(1.0);
    }
    const Interval interval = paired_speed_up(baseline, model).interval;
    held += interval.lower <= 1.0 && 1.0 <= interval.upper ? 1 : 0;
  }
  EXPECT_GE(held, 375);  // 0.9375; the interval holds with 0.965
}

}  // namespace
}  // namespace repquant
