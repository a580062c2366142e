#include "graph/shorter_inputs.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace repquant {
namespace {

using Sizes = std::vector<std::int64_t>;

TEST(ShorterInputs, TokensAndTheirMasks) {
  const auto got = shorter_inputs({at::ones({2, 9}), at::ones({2, 1, 9, 9}), at::ones({2})});
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->shape, "length 6");
  EXPECT_EQ(got->inputs[0].sizes(), (Sizes{2, 6}));
  EXPECT_EQ(got->inputs[1].sizes(), (Sizes{2, 1, 6, 6}));
  EXPECT_EQ(got->inputs[2].sizes(), Sizes{2});
}

TEST(ShorterInputs, AWidthIsNoLength) {
  const auto got = shorter_inputs({at::ones({2, 9, 9})});
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->inputs[0].sizes(), (Sizes{2, 6, 9}));
}

TEST(ShorterInputs, ImagesOfHalfTheirSides) {
  const auto got = shorter_inputs({at::ones({2, 3, 224, 64})});
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->shape, "96 x 32");
  EXPECT_EQ(got->inputs[0].sizes(), (Sizes{2, 3, 96, 32}));
  EXPECT_FALSE(shorter_inputs({at::ones({2, 3, 32, 32})}).has_value());
}

// Such as the points that a segmentation is asked for.
TEST(ShorterInputs, WhatStandsBesideImagesIsNoImage) {
  const at::Tensor image = at::ones({2, 3, 64, 64});
  EXPECT_TRUE(shorter_inputs({image, at::ones({2, 1, 64, 64})}).has_value());
  EXPECT_FALSE(shorter_inputs({image, at::ones({2, 1, 2, 2})}).has_value());
  EXPECT_FALSE(shorter_inputs({image, at::ones({2, 5})}).has_value());
}

TEST(ShorterInputs, NothingToCut) {
  EXPECT_FALSE(shorter_inputs({}).has_value());
  EXPECT_FALSE(shorter_inputs({at::ones({5})}).has_value());
  EXPECT_FALSE(shorter_inputs({at::ones({2, 1})}).has_value());
}

}  // namespace
}  // namespace repquant
