#include "evaluate/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "support/errors.h"

namespace repquant {
namespace {

TEST(ClusterMean, OfSingleValuesIsTheTextbookStandardError) {
  ClusterMean mean;
  for (const double value : {1.0, 2.0, 3.0, 6.0}) mean.add(value, 1.0);
  EXPECT_DOUBLE_EQ(mean.value(), 3.0);
  // Sample variance 14 / 3, over 4.
  EXPECT_NEAR(mean.mean().standard_error, std::sqrt(14.0 / 3.0 / 4.0), 1e-12);
}

TEST(ClusterMean, EqualValuesOfAClusterCountAsOne) {
  ClusterMean clusters, singles;
  for (const double value : {1.0, 2.0, 4.0}) {
    clusters.add(10.0 * value, 10.0);
    singles.add(value, 1.0);
  }
  EXPECT_DOUBLE_EQ(clusters.value(), singles.value());
  EXPECT_NEAR(clusters.mean().standard_error, singles.mean().standard_error, 1e-12);
}

TEST(ClusterMean, OneClusterHasNoError) {
  ClusterMean mean;
  mean.add(6.0, 3.0);
  EXPECT_DOUBLE_EQ(mean.mean().value, 2.0);
  EXPECT_TRUE(std::isnan(mean.mean().standard_error));
  EXPECT_DOUBLE_EQ(normal_interval(mean.mean()).lower, 2.0);
}

TEST(Ranks, TiesShareTheMean) {
  const std::vector<double> values{3, 1, 3, 2, 3};
  EXPECT_EQ(ranks(values), (std::vector<double>{4, 1, 4, 2, 4}));
}

TEST(Spearman, ClosedForm) {
  const std::vector<double> up{1, 2, 3, 4};
  const std::vector<double> cubes{1, 8, 27, 64};
  const std::vector<double> down{9, 5, 2, 1};
  EXPECT_DOUBLE_EQ(spearman(up, cubes).value(), 1.0);
  EXPECT_DOUBLE_EQ(spearman(up, down).value(), -1.0);
  // Without ties: 1 - 6 sum d^2 / (n (n^2 - 1)) with d = 1, 1, 0, 0.
  const std::vector<double> swapped{2, 1, 3, 4};
  EXPECT_NEAR(spearman(up, swapped).value(), 1.0 - 12.0 / 60.0, 1e-12);
}

TEST(Spearman, TiesAsScipyHasThem) {
  // scipy.stats.spearmanr([1, 2, 2, 3, 5], [2, 2, 1, 4, 5]).
  const std::vector<double> x{1, 2, 2, 3, 5};
  const std::vector<double> y{2, 2, 1, 4, 5};
  // Ranks 1, 2.5, 2.5, 4, 5 and 2.5, 2.5, 1, 4, 5: covariance 7.25, variances 9.5 and 9.5.
  EXPECT_NEAR(spearman(x, y).value(), 7.25 / 9.5, 1e-12);
}

TEST(Spearman, ConstantSideHasNone) {
  const std::vector<double> constant{2, 2, 2};
  const std::vector<double> other{1, 2, 3};
  EXPECT_FALSE(spearman(constant, other).has_value());
  EXPECT_FALSE(spearman(other, constant).has_value());
  EXPECT_FALSE(spearman(std::vector<double>{1}, std::vector<double>{1}).has_value());
  EXPECT_ERROR(spearman(other, std::vector<double>{1}), ErrorKind::kInternal, "sizes");
}

TEST(Spearman, DoesNotChangeUnderMonotoneMaps) {
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  std::vector<double> x(50), y(50), mapped(50);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = normal(random);
    y[i] = x[i] + normal(random);
    mapped[i] = std::exp(3.0 * y[i]);
  }
  EXPECT_DOUBLE_EQ(spearman(x, y).value(), spearman(x, mapped).value());
}

TEST(Spearman, Interval) {
  // rho = 0, n = 103: tanh(1.96 / 10).
  EXPECT_NEAR(spearman_interval(0.0, 103).upper, std::tanh(0.1959963985), 1e-9);
  const Interval high = spearman_interval(0.867, 1500);
  EXPECT_LT(high.lower, 0.867);
  EXPECT_GT(high.upper, 0.867);
  EXPECT_LT(high.upper - high.lower, 0.04);
  EXPECT_DOUBLE_EQ(spearman_interval(0.5, 3).lower, -1.0);
  EXPECT_DOUBLE_EQ(spearman_interval(1.0, 50).lower, 1.0);
}

}  // namespace
}  // namespace repquant
