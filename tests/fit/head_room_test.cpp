#include "fit/head_room.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace repquant {
namespace {

TEST(HeadRoom, BoundsAreThoseOfTheLevels) {
  const Bounds bounds = bounds_of(affine_grid(at::full({1}, -1.0), at::full({1}, 2.0), 4));
  EXPECT_NEAR(bounds.lower.item<double>(), -1.0, 1e-6);
  EXPECT_NEAR(bounds.upper.item<double>(), 2.0, 1e-6);
}

TEST(HeadRoom, WidensAboutTheCentre) {
  const Bounds bounds{at::tensor({-1.0F, 2.0F, -3.0F}), at::tensor({3.0F, 4.0F, -1.0F})};
  const Bounds wide = widened(bounds, at::tensor({1.0F, 3.0F, 9.0F}), 1.5);
  // The last centre lies outside and is moved to the upper bound, which stays.
  EXPECT_TRUE(at::allclose(wide.lower, at::tensor({-2.0F, 1.5F, -4.0F})));
  EXPECT_TRUE(at::allclose(wide.upper, at::tensor({4.0F, 4.5F, -1.0F})));
}

TEST(HeadRoom, StepsAreNotFinerThanFloat32Determines) {
  // Coarse enough; a constant; 8 and -8 with little variation about them.
  const Bounds bounds{at::tensor({-1.0F, 5.0F, 8.0F, -8.001F}),
                      at::tensor({3.0F, 5.0F, 8.001F, -8.0F})};
  const Bounds wide = with_reproducible_steps(bounds, 8);
  for (const std::int64_t i : {0, 1}) {
    EXPECT_EQ(wide.lower[i].item<float>(), bounds.lower[i].item<float>());
    EXPECT_EQ(wide.upper[i].item<float>(), bounds.upper[i].item<float>());
  }
  const AffineGrid grid = affine_grid(wide.lower, wide.upper, 8);
  for (const std::int64_t i : {2, 3}) {
    EXPECT_NEAR(grid.scale[i].item<float>() * 2048, 8.0, 0.01);
    EXPECT_LE(wide.lower[i].item<float>(), bounds.lower[i].item<float>());
    EXPECT_GE(wide.upper[i].item<float>(), bounds.upper[i].item<float>());
    const double code = (bounds.lower[i].item<double>() - wide.lower[i].item<double>()) /
                        grid.scale[i].item<double>();
    EXPECT_NEAR(code, std::round(code), 0.02);
  }
}

TEST(HeadRoom, ChoosesTheLeastErrorAndTheSmallestOfEquals) {
  EXPECT_EQ(choose_head_room([](double factor) { return std::abs(factor - 1.3); }), 1.25);
  EXPECT_EQ(choose_head_room([](double) { return 1.0; }), 1.0);
  EXPECT_EQ(choose_head_room([](double factor) { return -factor; }), 1.9);
}

TEST(HeadRoom, TheEndOfOneSidedDataIsNoTie) {
  for (const int bits : {3, 4, 6, 8}) {
    for (double wanted : {1.1, 1.25, 1.5, 1.9}) {
      const double factor =
          choose_head_room([&](double candidate) { return std::abs(candidate - wanted); });
      const double steps = ((1 << bits) - 1) / factor;
      EXPECT_GT(std::abs(steps - std::floor(steps) - 0.5), 1e-3) << bits << " " << factor;
    }
  }
}

}  // namespace
}  // namespace repquant
