#include "quantizer/adam.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace repquant {
namespace {

at::Tensor doubles(std::vector<double> values) { return at::tensor(values, at::kDouble); }

TEST(AdamTest, TheFirstStepKnowsOnlyTheSign) {
  const at::Tensor gradient = doubles({3.0, -0.5, 1e-3});
  Adam adam(gradient, {.second_decay = 0.99, .epsilon = 1e-150});
  EXPECT_TRUE(at::allclose(adam.step(gradient), doubles({1.0, -1.0, 1.0}), 1e-12, 0));
}

// Algorithm 1 by hand: the moments after 2 and then -1.
TEST(AdamTest, TheSecondStepByHand) {
  const at::Tensor gradient = doubles({2.0});
  Adam adam(gradient, {.second_decay = 0.99, .epsilon = 0.5});
  adam.step(gradient);
  const double first = (0.9 * 0.1 * 2 - 0.1 * 1) / (1 - 0.9 * 0.9);
  const double second = (0.99 * 0.01 * 4 + 0.01 * 1) / (1 - 0.99 * 0.99);
  EXPECT_NEAR(adam.step(doubles({-1.0})).item<double>(), first / (std::sqrt(second) + 0.5), 1e-12);
}

TEST(AdamTest, WhatHasNoGradientStays) {
  const at::Tensor gradient = doubles({0.0});
  Adam adam(gradient, {.second_decay = 0.99, .epsilon = 1e-150});
  EXPECT_EQ(adam.step(gradient).item<double>(), 0.0);
}

}  // namespace
}  // namespace repquant
