// Exact one-dimensional k-means.
#include "quantizer/levels.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <tuple>

namespace repquant {
namespace {

double error_of(const at::Tensor& levels, const at::Tensor& values, const at::Tensor& weights) {
  const at::Tensor distance = (values.unsqueeze(1) - levels.to(at::kDouble)).square();
  return (std::get<0>(distance.min(1)) * weights).sum().item<double>();
}

struct Histogram {
  at::Tensor counts = at::zeros({256}, at::kDouble);
  at::Tensor sums = at::zeros({256}, at::kDouble);

  void add(const at::Tensor& values, const at::Tensor& weights) {
    const at::Tensor bins = values.round().to(at::kLong);
    counts.index_add_(0, bins, weights);
    sums.index_add_(0, bins, weights * values);
  }
};

TEST(Levels, OfAFewValuesAreThese) {
  Histogram histogram;
  histogram.add(at::tensor({3.0, 50.0, 51.0, 255.0}), at::ones({4}, at::kDouble));
  const at::Tensor levels = best_levels(histogram.counts, histogram.sums, 2);
  EXPECT_TRUE(at::equal(levels, at::tensor({3, 50, 51, 255}).to(at::kByte))) << levels;
}

// 2.5 is nearest to 2 as to 3: of the values of one interval no level lies in another one.
TEST(Levels, RiseWhereMeansLieBetweenIntegers) {
  for (const int bits : {2, 3, 4}) {
    const at::Tensor counts = at::ones({256}, at::kDouble);
    for (const double shift : {-0.5, 0.5}) {
      const at::Tensor sums = at::zeros({256}, at::kDouble);
      counts.zero_().narrow(0, 0, 6).fill_(1.0);
      sums.copy_(counts * (at::arange(256, at::kDouble) + shift));
      const at::Tensor levels = best_levels(counts, sums, bits).to(at::kInt);
      EXPECT_TRUE(levels.diff().gt(0).all().item<bool>()) << levels;
    }
  }
}

TEST(Levels, AreTheBestThereAre) {
  // All choices of four integer levels among values 0 .. 12.
  at::manual_seed(4);
  const at::Tensor values = at::arange(13, at::kDouble);
  const at::Tensor weights = at::rand({13}, at::kDouble).square();
  Histogram histogram;
  histogram.add(values, weights);
  double least = std::numeric_limits<double>::infinity();
  for (int a = 0; a < 13; ++a) {
    for (int b = a + 1; b < 13; ++b) {
      for (int c = b + 1; c < 13; ++c) {
        for (int d = c + 1; d < 13; ++d) {
          least = std::min(least, error_of(at::tensor({a, b, c, d}), values, weights));
        }
      }
    }
  }
  const at::Tensor levels = best_levels(histogram.counts, histogram.sums, 2);
  EXPECT_NEAR(error_of(levels, values, weights), least, 1e-9);
}

TEST(Levels, NothingSeenStillGivesRisingLevels) {
  const Histogram none;
  const at::Tensor levels = best_levels(none.counts, none.sums, 4).to(at::kInt);
  EXPECT_EQ(levels.numel(), 16);
  EXPECT_TRUE((levels.slice(0, 1) >= levels.slice(0, 0, 15)).all().item<bool>());
}

}  // namespace
}  // namespace repquant
